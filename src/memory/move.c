/* move.c - a scope as JSON lines, and back: facts in all versions, messages, summaries, blocks.
 *
 * Lines are objects with a "type". A fact carries the id it had, by which later lines name it as "chain" and
 * "previous"; taking it in gives it a new one. Documents are left out: they are read again from where they lie.
 *
 * Import is one transaction: a line that is wrong undoes all before it. A version that is there already, by text and
 * both times, is found again instead of written twice. Any thread.
 */
#include <math.h>

#include "lib/json/json.h"
#include "src/memory/memory.h"

/* ---- export ------------------------------------------------------------------------------------------------------------ */

static void write_fact(aii_stmt *stmt, aii_buf *out)
{
  aii_buf_str(out, "{\"type\":\"fact\",");
  aii_fact_write(stmt, false, out);
}

static void write_message(aii_stmt *stmt, aii_buf *out)
{
  size_t n;
  const char *s = aii_stmt_get_text(stmt, 0, &n);
  aii_buf_str(out, "{\"type\":\"message\",\"conversation\":");
  aii_buf_json(out, s, n);
  aii_buf_fmt(out, ",\"seq\":%lld,\"created_ms\":%lld,\"message\":", (long long)aii_stmt_get_int(stmt, 1),
              (long long)aii_stmt_get_int(stmt, 2));
  s = aii_stmt_get_text(stmt, 3, &n); /* as a string: a message may be written over several lines */
  aii_buf_json(out, s, n);
}

static void write_block(aii_stmt *stmt, aii_buf *out)
{
  size_t n;
  const char *s = aii_stmt_get_text(stmt, 0, &n);
  aii_buf_str(out, "{\"type\":\"block\",\"label\":");
  aii_buf_json(out, s, n);
  s = aii_stmt_get_text(stmt, 1, &n);
  aii_buf_str(out, ",\"text\":");
  aii_buf_json(out, s, n);
  s = aii_stmt_get_text(stmt, 2, &n);
  if (n > 0) aii_buf_str(out, ",\"description\":");
  if (n > 0) aii_buf_json(out, s, n);
  if (!aii_stmt_is_null(stmt, 3)) aii_buf_fmt(out, ",\"limit_bytes\":%lld", (long long)aii_stmt_get_int(stmt, 3));
  if (aii_stmt_get_int(stmt, 4) != 0) aii_buf_str(out, ",\"read_only\":true");
}

static void write_summary(aii_stmt *stmt, aii_buf *out)
{
  size_t n;
  const char *s = aii_stmt_get_text(stmt, 0, &n);
  aii_buf_str(out, "{\"type\":\"summary\",\"conversation\":");
  aii_buf_json(out, s, n);
  aii_buf_fmt(
      out, ",\"first_seq\":%lld,\"last_seq\":%lld,\"created_ms\":%lld,\"text\":", (long long)aii_stmt_get_int(stmt, 1),
      (long long)aii_stmt_get_int(stmt, 2), (long long)aii_stmt_get_int(stmt, 3));
  s = aii_stmt_get_text(stmt, 4, &n);
  aii_buf_json(out, s, n);
}

/* A line for each row that is left of the statement. */
static aiinfra_status export_rows(aii_stmt *stmt, void (*write)(aii_stmt *stmt, aii_buf *out), aii_buf *out,
                                  aiinfra_error *err)
{
  bool row = true;
  aiinfra_status rc = AIINFRA_OK;
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    write(stmt, out);
    aii_buf_str(out, "}\n");
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status export_facts(aiinfra_memory *memory, aii_buf *out, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql,
                      "SELECT" AII_FACT_COLUMNS "FROM items i JOIN rows r ON r.collection IN (?2, ?3) AND r.id = i.id "
                      "WHERE i.scope = ?1 AND i.kind = 1 ORDER BY i.id",
                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_int(stmt, 2, memory->store->collection);
  aii_stmt_int(stmt, 3, aii_memory_past(memory));
  return export_rows(stmt, write_fact, out, err);
}

static aiinfra_status export_messages(aiinfra_memory *memory, aii_buf *out, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(memory->db->sql,
                                      "SELECT conversation, seq, created_ms, message FROM messages WHERE scope = ?1 "
                                      "ORDER BY conversation, seq",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  return export_rows(stmt, write_message, out, err);
}

static aiinfra_status export_blocks(aiinfra_memory *memory, aii_buf *out, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql,
                      "SELECT label, text, description, limit_bytes, read_only FROM blocks WHERE scope = ?1 "
                      "ORDER BY label",
                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  return export_rows(stmt, write_block, out, err);
}

static aiinfra_status export_summaries(aiinfra_memory *memory, aii_buf *out, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(memory->db->sql,
                                      "SELECT conversation, first_seq, last_seq, created_ms, text FROM summaries WHERE "
                                      "scope = ?1 ORDER BY conversation, first_seq",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  return export_rows(stmt, write_summary, out, err);
}

aiinfra_status aii_memory_export(aiinfra_memory *memory, aii_buf *out, aiinfra_error *err)
{
  aiinfra_status rc = aii_memory_open_past(memory, false, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(memory->db->sql);
  rc = aii_sql_begin_read(memory->db->sql, err);
  if (rc == AIINFRA_OK) {
    rc = export_facts(memory, out, err);
    if (rc == AIINFRA_OK) rc = export_messages(memory, out, err);
    if (rc == AIINFRA_OK) rc = export_summaries(memory, out, err);
    if (rc == AIINFRA_OK) rc = export_blocks(memory, out, err);
    aii_sql_rollback(memory->db->sql);
  }
  aii_sql_unlock(memory->db->sql);
  return rc;
}

/* ---- import ------------------------------------------------------------------------------------------------------------ */

typedef struct renamed {
  int64_t from, to;
} renamed;

typedef struct importer {
  aiinfra_memory *memory;
  renamed *ids; /* in the order of `from`, as the lines are */
  size_t n, cap;
  uint64_t n_taken;
  size_t line;
} importer;

static int64_t rename_id(const importer *im, int64_t id)
{
  for (size_t from = 0, to = im->n; from < to;) {
    size_t at = from + (to - from) / 2;
    if (im->ids[at].from == id) return im->ids[at].to;
    if (im->ids[at].from < id) from = at + 1;
    else to = at;
  }
  return 0;
}

/* A time, 0 when it is null or not there; negative ones are refused. */
static aiinfra_status get_time(const json_t *line, const char *name, int64_t *out, aiinfra_error *err)
{
  *out = 0;
  aiinfra_status rc = aii_json_get_int(line, "", name, false, out, err);
  if (rc == AIINFRA_OK && *out < 0) rc = aii_fail(err, AIINFRA_EINVAL, "%s is negative", name);
  return rc;
}

static aiinfra_status get_part(const json_t *line, const char *name, double *out, aiinfra_error *err)
{
  aiinfra_status rc = aii_json_get_num(line, "", name, false, out, err);
  if (rc == AIINFRA_OK && !(*out >= 0 && *out <= 1)) rc = aii_fail(err, AIINFRA_EINVAL, "%s is not 0 to 1", name);
  return rc;
}

static aiinfra_status read_fact(const importer *im, const json_t *line, int64_t *id, aii_item *item, aiinfra_error *err)
{
  struct {
    const char *name;
    int64_t *to;
  } times[] = {{"id", id},
               {"recorded_ms", &item->created_ms},
               {"retired_ms", &item->retired_ms},
               {"valid_from_ms", &item->valid_from_ms},
               {"valid_to_ms", &item->valid_to_ms},
               {"ended_ms", &item->ended_ms},
               {"ended_at_ms", &item->ended_at_ms},
               {"expires_ms", &item->expires_ms},
               {"chain", &item->chain},
               {"previous", &item->previous},
               {"reinforced", &item->reinforced}};
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < AII_COUNT(times); i++)
    rc = get_time(line, times[i].name, times[i].to, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(line, "", "source", false, &item->source, err);
  if (rc == AIINFRA_OK) rc = get_part(line, "trust", &item->trust, err);
  if (rc == AIINFRA_OK) rc = get_part(line, "importance", &item->importance, err);
  if (rc != AIINFRA_OK) return rc;
  if ((item->ended_ms == 0) != (item->ended_at_ms == 0))
    return aii_fail(err, AIINFRA_EINVAL, "ended_ms and ended_at_ms go together");
  if (im->n > 0 && *id <= im->ids[im->n - 1].from)
    return aii_fail(err, AIINFRA_EINVAL, "id %lld is not above the one before it", (long long)*id);
  int64_t chain = rename_id(im, item->chain), previous = rename_id(im, item->previous);
  if ((item->chain != 0 && chain == 0) || (item->previous != 0 && previous == 0))
    return aii_fail(err, AIINFRA_EINVAL, "chain or previous names no fact of an earlier line");
  item->chain = chain;
  item->previous = previous;
  int64_t now = aii_unix_ms();
  item->past = item->retired_ms != 0 || (item->ended_ms != 0 && item->ended_ms <= now);
  return AIINFRA_OK;
}

/* A version with the same text and times; *id 0: none. */
static aiinfra_status find_version(aiinfra_memory *memory, const aii_item *item, int64_t *id, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(
      memory->db->sql,
      "SELECT i.id FROM items i JOIN rows r ON r.collection IN (?3, ?4) AND r.id = i.id WHERE i.scope = ?1 AND "
      "i.hash = ?2 AND i.kind = 1 AND i.created_ms = ?5 AND i.valid_from_ms IS ?6 AND r.text = ?7 LIMIT 1",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_int(stmt, 2, item->hash);
  aii_stmt_int(stmt, 3, memory->store->collection);
  aii_stmt_int(stmt, 4, aii_memory_past(memory));
  aii_stmt_int(stmt, 5, item->created_ms);
  if (item->valid_from_ms != 0) aii_stmt_int(stmt, 6, item->valid_from_ms);
  aii_stmt_text(stmt, 7, item->text, strlen(item->text));
  rc = aii_stmt_step(stmt, &row, err);
  *id = rc == AIINFRA_OK && row ? aii_stmt_get_int(stmt, 0) : 0;
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status take_text(importer *im, const json_t *line, const char *s, aiinfra_error *err)
{
  aii_mem *mem = &im->memory->db->rt->mem;
  aii_text text;
  aii_buf metadata;
  int64_t from = 0, id = 0;
  aii_buf_init(&metadata, mem, 0);
  aiinfra_status rc = aii_text_make(im->memory, s, &text, err);
  aii_item item = aii_text_item(&text);
  json_t *object = json_object_get(line, "metadata");
  if (rc == AIINFRA_OK && object != NULL && !json_is_object(object))
    rc = aii_fail(err, AIINFRA_EINVAL, "metadata: expected an object, found %s", aii_json_type(object));
  if (rc == AIINFRA_OK && json_object_size(object) > 0) {
    if (!aii_json_dump(object, &metadata)) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a fact");
    item.metadata = aii_buf_cstr(&metadata);
  }
  if (rc == AIINFRA_OK) rc = read_fact(im, line, &from, &item, err);
  if (rc == AIINFRA_OK) rc = find_version(im->memory, &item, &id, err);
  if (rc == AIINFRA_OK && id == 0) {
    rc = aii_items_insert(im->memory, &item, &id, err);
    im->n_taken += rc == AIINFRA_OK;
  }
  if (rc == AIINFRA_OK && from != 0) {
    if (aii_grow(mem, &im->ids, &im->cap, im->n + 1, sizeof *im->ids)) im->ids[im->n++] = (renamed){from, id};
    else rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu facts", im->n);
  }
  aii_text_free(&text);
  aii_buf_free(&metadata);
  return rc;
}

static aiinfra_status take_fact(importer *im, const json_t *line, aiinfra_error *err)
{
  const char *s = NULL;
  aiinfra_status rc = aii_json_get_str(line, "", "text", true, &s, err);
  if (rc != AIINFRA_OK) return rc;
  size_t n = strlen(s);
  if (s[strspn(s, " \t\r\n\f\v")] == '\0' || n > 65536)
    return aii_fail(err, AIINFRA_EINVAL, "text: is empty or longer than 65536 bytes");
  return take_text(im, line, s, err);
}

static aiinfra_status take_message(importer *im, const json_t *line, aiinfra_error *err)
{
  const char *conversation = NULL, *message = NULL;
  int64_t seq = 0, created = 0;
  aii_stmt *stmt;
  aiinfra_status rc = aii_json_get_str(line, "", "conversation", true, &conversation, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(line, "", "message", true, &message, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(line, "", "seq", true, &seq, err);
  if (rc == AIINFRA_OK) rc = get_time(line, "created_ms", &created, err);
  if (rc == AIINFRA_OK && (conversation[0] == '\0' || strlen(conversation) > 256))
    rc = aii_fail(err, AIINFRA_EINVAL, "conversation: is empty or longer than 256 bytes");
  if (rc == AIINFRA_OK) rc = aii_message_check(message, err);
  if (rc == AIINFRA_OK)
    rc = aii_sql_prepare(
        im->memory->db->sql,
        "INSERT INTO messages(scope, conversation, seq, message, created_ms) VALUES(?1, ?2, ?3, ?4, ?5) "
        "ON CONFLICT DO NOTHING",
        &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, im->memory->scope);
  aii_stmt_text(stmt, 2, conversation, strlen(conversation));
  aii_stmt_int(stmt, 3, seq);
  aii_stmt_text(stmt, 4, message, strlen(message));
  aii_stmt_int(stmt, 5, created);
  rc = aii_stmt_run(stmt, err);
  im->n_taken += rc == AIINFRA_OK && aii_sql_changes(im->memory->db->sql) > 0;
  return rc;
}

static aiinfra_status take_summary(importer *im, const json_t *line, aiinfra_error *err)
{
  const char *conversation = NULL, *text = NULL;
  int64_t first = 0, last = 0, created = 0;
  aii_stmt *stmt;
  aiinfra_status rc = aii_json_get_str(line, "", "conversation", true, &conversation, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(line, "", "text", true, &text, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(line, "", "first_seq", true, &first, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(line, "", "last_seq", true, &last, err);
  if (rc == AIINFRA_OK) rc = get_time(line, "created_ms", &created, err);
  if (rc == AIINFRA_OK &&
      (conversation[0] == '\0' || strlen(conversation) > 256 || strlen(text) > 65536 || first < 1 || last < first))
    rc = aii_fail(err, AIINFRA_EINVAL, "conversation or text is empty or too long, or there is no range");
  if (rc == AIINFRA_OK)
    rc = aii_sql_prepare(im->memory->db->sql,
                         "INSERT INTO summaries(scope, conversation, first_seq, last_seq, created_ms, text) "
                         "SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS(SELECT 1 FROM summaries WHERE scope = ?1 AND "
                         "conversation = ?2 AND first_seq <= ?4 AND last_seq >= ?3)",
                         &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, im->memory->scope);
  aii_stmt_text(stmt, 2, conversation, strlen(conversation));
  aii_stmt_int(stmt, 3, first);
  aii_stmt_int(stmt, 4, last);
  aii_stmt_int(stmt, 5, created);
  aii_stmt_text(stmt, 6, text, strlen(text));
  rc = aii_stmt_run(stmt, err);
  im->n_taken += rc == AIINFRA_OK && aii_sql_changes(im->memory->db->sql) > 0;
  return rc;
}

static aiinfra_status take_block(importer *im, const json_t *line, aiinfra_error *err)
{
  const char *label = NULL, *text = NULL, *about = NULL;
  int64_t limit = AII_BLOCK_BYTES;
  bool read_only = false;
  aii_stmt *stmt;
  aiinfra_status rc = aii_json_get_str(line, "", "label", true, &label, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(line, "", "text", true, &text, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(line, "", "description", false, &about, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(line, "", "limit_bytes", false, &limit, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_bool(line, "", "read_only", false, &read_only, err);
  if (rc == AIINFRA_OK && (label[0] == '\0' || strlen(label) > 64 || limit < 1 || limit > AII_BLOCK_BYTES ||
                           strlen(text) > (size_t)limit || (about != NULL && strlen(about) > 1024)))
    rc = aii_fail(err, AIINFRA_EINVAL, "label, text or description: is empty or too long");
  if (rc == AIINFRA_OK)
    rc = aii_sql_prepare(im->memory->db->sql,
                         "INSERT INTO blocks(scope, label, text, updated_ms, limit_bytes, description, read_only) "
                         "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                         &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, im->memory->scope);
  aii_stmt_text(stmt, 2, label, strlen(label));
  aii_stmt_text(stmt, 3, text, strlen(text));
  aii_stmt_int(stmt, 4, aii_unix_ms());
  if (limit != AII_BLOCK_BYTES) aii_stmt_int(stmt, 5, limit);
  aii_stmt_text(stmt, 6, about, about != NULL ? strlen(about) : 0);
  aii_stmt_int(stmt, 7, read_only);
  rc = aii_stmt_run(stmt, err);
  im->n_taken += rc == AIINFRA_OK && aii_sql_changes(im->memory->db->sql) > 0;
  return rc;
}

static aiinfra_status take_line(importer *im, const char *s, size_t n, aiinfra_error *err)
{
  json_t *line = NULL;
  const char *type = NULL;
  aiinfra_status rc = aii_json_parse(s, n, "the line", 0, &line, err);
  if (rc == AIINFRA_OK && !json_is_object(line))
    rc = aii_fail(err, AIINFRA_EINVAL, "expected an object, found %s", aii_json_type(line));
  if (rc == AIINFRA_OK) rc = aii_json_get_str(line, "", "type", true, &type, err);
  if (rc == AIINFRA_OK && strcmp(type, "fact") == 0) rc = take_fact(im, line, err);
  else if (rc == AIINFRA_OK && strcmp(type, "message") == 0) rc = take_message(im, line, err);
  else if (rc == AIINFRA_OK && strcmp(type, "summary") == 0) rc = take_summary(im, line, err);
  else if (rc == AIINFRA_OK && strcmp(type, "block") == 0) rc = take_block(im, line, err);
  else if (rc == AIINFRA_OK) rc = aii_fail(err, AIINFRA_EINVAL, "type: \"%.32s\" is not known", type);
  json_decref(line);
  if (rc == AIINFRA_EFORMAT) {
    rc = AIINFRA_EINVAL;
    if (err != NULL) err->status = rc;
  }
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "line %zu", im->line);
}

static aiinfra_status take_all(importer *im, const char *jsonl, size_t n, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < n;) {
    const char *end = memchr(jsonl + i, '\n', n - i);
    size_t len = end != NULL ? (size_t)(end - jsonl) - i : n - i, blank = 0;
    im->line++;
    while (blank < len && strchr(" \t\r", jsonl[i + blank]) != NULL) blank++;
    if (blank < len) rc = take_line(im, jsonl + i, len, err);
    i += len + 1;
  }
  return rc;
}

aiinfra_status aii_memory_import(aiinfra_memory *memory, const char *jsonl, size_t n, uint64_t *n_taken,
                                 aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  importer im = {.memory = memory};
  *n_taken = 0;
  aiinfra_status rc = aii_memory_open_past(memory, true, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(sql);
  rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    rc = take_all(&im, jsonl, n, err);
    if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
    else aii_sql_rollback(sql);
  }
  aii_sql_unlock(sql);
  aii_del(&memory->db->rt->mem, im.ids, im.cap * sizeof *im.ids);
  if (rc == AIINFRA_OK) *n_taken = im.n_taken;
  return rc;
}
