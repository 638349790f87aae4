/* journal.c - the tables `runs` and `journal`: append, load, list.
 *
 * Happy path: a batch of events goes in as one transaction, numbered behind the last one; the run's row follows its
 * state. Possible failures: the disk, and a second process that drives the same run, which the primary key of the
 * journal tells: EBUSY.
 * Everything here blocks on the disk, so it runs on the thread pool, except the list.
 */
#include "src/agent/agent.h"

static const char *state_after(const aii_events *events)
{
  aii_event_kind last = events->n > 0 ? events->items[events->n - 1].kind : AII_EV_RUN_STARTED;
  return last == AII_EV_RUN_FINISHED ? "finished" : last == AII_EV_RUN_FAILED ? "failed" : "running";
}

static aiinfra_status insert_event(aii_sql *sql, int64_t run, int64_t seq, const aii_event *event, aii_buf *text,
                                   aiinfra_error *err)
{
  aii_stmt *stmt;
  const char *kind = aii_event_name(event->kind);
  aiinfra_status rc = aii_sql_prepare(
      sql, "INSERT INTO journal(run, seq, kind, body, created_ms) VALUES(?1, ?2, ?3, ?4, ?5)", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_clear(text);
  if (!aii_json_dump(event->body, text)) return aii_fail(err, AIINFRA_ENOMEM, "event %s", kind);
  aii_stmt_int(stmt, 1, run);
  aii_stmt_int(stmt, 2, seq);
  aii_stmt_text(stmt, 3, kind, strlen(kind));
  aii_stmt_text(stmt, 4, text->data, text->len);
  aii_stmt_int(stmt, 5, aii_unix_ms());
  return aii_stmt_run(stmt, err);
}

static aiinfra_status insert_events(aiinfra_db *db, int64_t run, int64_t seq, const aii_events *events,
                                    aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  aii_buf text;
  aii_buf_init(&text, &db->rt->mem, 0);
  for (size_t i = 0; i < events->n && rc == AIINFRA_OK; i++)
    rc = insert_event(db->sql, run, seq + 1 + (int64_t)i, &events->items[i], &text, err);
  aii_buf_free(&text);
  return rc;
}

/* ---- start ------------------------------------------------------------------------------------------------------- */

static aiinfra_status insert_run(aii_sql *sql, const aii_journal_run *run, aiinfra_error *err)
{
  aii_stmt *stmt;
  int64_t now = aii_unix_ms();
  aiinfra_status rc = aii_sql_prepare(sql,
                                      "INSERT INTO runs(agent, state, input, conversation, options, created_ms, "
                                      "updated_ms) VALUES(?1, 'running', ?2, ?3, '{}', ?4, ?4)",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 1, run->agent, strlen(run->agent));
  aii_stmt_text(stmt, 2, run->input, strlen(run->input));
  aii_stmt_text(stmt, 3, run->conversation, run->conversation != NULL ? strlen(run->conversation) : 0);
  aii_stmt_int(stmt, 4, now);
  return aii_stmt_run(stmt, err);
}

aiinfra_status aii_journal_start(aiinfra_db *db, aii_journal_run *run, const aii_events *events, aiinfra_error *err)
{
  aiinfra_status rc;
  aii_sql_lock(db->sql);
  rc = aii_sql_begin(db->sql, err);
  if (rc != AIINFRA_OK) goto unlock;
  rc = insert_run(db->sql, run, err);
  if (rc == AIINFRA_OK) run->id = aii_sql_last_id(db->sql);
  if (rc == AIINFRA_OK) rc = insert_events(db, run->id, 0, events, err);
  if (rc != AIINFRA_OK) aii_sql_rollback(db->sql);
  else rc = aii_sql_commit(db->sql, err);
unlock:
  aii_sql_unlock(db->sql);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "journal of a new run");
}

/* ---- append ------------------------------------------------------------------------------------------------------- */

static aiinfra_status last_seq(aii_sql *sql, int64_t run, int64_t *seq, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = false;
  aiinfra_status rc = aii_sql_prepare(sql, "SELECT max(seq) FROM journal WHERE run = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, run);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK) *seq = row ? aii_stmt_get_int(stmt, 0) : 0;
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status update_run(aii_sql *sql, int64_t run, const char *state, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(sql, "UPDATE runs SET state = ?2, updated_ms = ?3 WHERE id = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, run);
  aii_stmt_text(stmt, 2, state, strlen(state));
  aii_stmt_int(stmt, 3, aii_unix_ms());
  return aii_stmt_run(stmt, err);
}

aiinfra_status aii_journal_append(aiinfra_db *db, int64_t run, int64_t seq, const aii_events *events,
                                  aiinfra_error *err)
{
  int64_t last = seq;
  aiinfra_status rc;
  aii_sql_lock(db->sql);
  rc = aii_sql_begin(db->sql, err);
  if (rc != AIINFRA_OK) goto unlock;
  rc = last_seq(db->sql, run, &last, err);
  if (rc == AIINFRA_OK && last != seq)
    rc = aii_fail(err, AIINFRA_EBUSY, "somebody else drives this run: expected event %lld, found %lld", (long long)seq,
                  (long long)last);
  if (rc == AIINFRA_OK) rc = insert_events(db, run, seq, events, err);
  if (rc == AIINFRA_OK) rc = update_run(db->sql, run, state_after(events), err);
  if (rc != AIINFRA_OK) aii_sql_rollback(db->sql);
  else rc = aii_sql_commit(db->sql, err);
unlock:
  aii_sql_unlock(db->sql);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "journal of run %lld", (long long)run);
}

/* ---- load --------------------------------------------------------------------------------------------------------- */

static aiinfra_status check_run(aii_sql *sql, int64_t run, const char *agent, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = false;
  aiinfra_status rc = aii_sql_prepare(sql, "SELECT state FROM runs WHERE id = ?1 AND agent = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, run);
  aii_stmt_text(stmt, 2, agent, strlen(agent));
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && !row) rc = aii_fail(err, AIINFRA_ENOENT, "agent '%s' has no run %lld", agent, (long long)run);
  if (rc == AIINFRA_OK && strcmp(aii_stmt_get_text(stmt, 0, NULL), "running") != 0)
    rc = aii_fail(err, AIINFRA_EEXIST, "run %lld has %s", (long long)run, aii_stmt_get_text(stmt, 0, NULL));
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status read_event(aiinfra_db *db, aii_stmt *stmt, aii_events *events, aiinfra_error *err)
{
  size_t n = 0;
  json_t *body = NULL;
  aiinfra_status rc;
  const char *name = aii_stmt_get_text(stmt, 0, NULL);
  int kind = 0;
  while (kind < AII_EV_COUNT && strcmp(name, aii_event_name((aii_event_kind)kind)) != 0) kind++;
  if (kind == AII_EV_COUNT) return aii_fail(err, AIINFRA_ENOTSUP, "event '%.40s' is not known to this version", name);
  name = aii_stmt_get_text(stmt, 1, &n);
  rc = aii_json_parse(name, n, "event", 0, &body, err);
  if (rc != AIINFRA_OK) return rc;
  return aii_events_add(events, &db->rt->mem, (aii_event_kind)kind, body, err);
}

static aiinfra_status read_events(aiinfra_db *db, int64_t run, aii_events *events, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = false;
  aiinfra_status rc =
      aii_sql_prepare(db->sql, "SELECT kind, body FROM journal WHERE run = ?1 ORDER BY seq", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, run);
  while ((rc = aii_stmt_step(stmt, &row, err)) == AIINFRA_OK && row) {
    rc = read_event(db, stmt, events, err);
    if (rc != AIINFRA_OK) break;
  }
  aii_stmt_reset(stmt);
  return rc;
}

aiinfra_status aii_journal_load(aiinfra_db *db, int64_t run, const char *agent, aii_events *events, aiinfra_error *err)
{
  aiinfra_status rc;
  aii_sql_lock(db->sql);
  rc = check_run(db->sql, run, agent, err);
  if (rc == AIINFRA_OK) rc = read_events(db, run, events, err);
  aii_sql_unlock(db->sql);
  if (rc == AIINFRA_ENOENT || rc == AIINFRA_EEXIST || rc == AIINFRA_OK) return rc;
  return aii_wrap(err, rc, "journal of run %lld", (long long)run);
}

/* ---- list --------------------------------------------------------------------------------------------------------- */

static void list_row(aii_stmt *stmt, aii_buf *out)
{
  size_t n = 0;
  const char *text;
  aii_buf_fmt(out, "%s{\"run\":%lld,\"state\":", out->len > 1 ? "," : "", (long long)aii_stmt_get_int(stmt, 0));
  text = aii_stmt_get_text(stmt, 1, &n);
  aii_buf_json(out, text, n);
  aii_buf_str(out, ",\"input\":");
  text = aii_stmt_get_text(stmt, 2, &n);
  aii_buf_json(out, text, n);
  aii_buf_fmt(out, ",\"created_ms\":%lld,\"steps\":%lld}", (long long)aii_stmt_get_int(stmt, 3),
              (long long)aii_stmt_get_int(stmt, 4));
}

aiinfra_status aii_journal_list(aiinfra_db *db, const char *agent, bool unfinished_only, aii_buf *out,
                                aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = false;
  aiinfra_status rc;
  aii_sql_lock(db->sql);
  rc = aii_sql_prepare(db->sql,
                       "SELECT id, state, input, created_ms, (SELECT count(*) FROM journal WHERE run = runs.id AND "
                       "kind = 'llm_requested') FROM runs WHERE agent = ?1 AND (?2 = 0 OR state = 'running') "
                       "ORDER BY id DESC",
                       &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_text(stmt, 1, agent, strlen(agent));
    aii_stmt_int(stmt, 2, unfinished_only);
    aii_buf_char(out, '[');
    while ((rc = aii_stmt_step(stmt, &row, err)) == AIINFRA_OK && row) list_row(stmt, out);
    aii_buf_char(out, ']');
    aii_stmt_reset(stmt);
  }
  aii_sql_unlock(db->sql);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "list of runs");
}
