/* truth.c - PostgreSQL as the place where the truth of a shared database lies: what nodes read, and the plug-in's table.
 *
 * A write transaction locks the row of state first, so that transactions of nodes come one behind the other, each on
 * top of the newest state; it reads in the same round trip what it has not seen. Reading alone locks nothing: one
 * statement gives the state and what came after `since`.
 *
 * A call that needs no transaction makes a new connection when the old one was lost, once. One thread at a time.
 */
#include "src/db/postgres/postgres.h"

/* Behind LEFT JOIN, so that there is a row when nothing is new. */
#define NEWER                                                                                                 \
  "SELECT s.version, s.tables, s.uuid, c.version, c.changes FROM replica_state s LEFT JOIN replica_changes c" \
  " ON c.version > $1 ORDER BY c.version"

typedef struct reader {
  aii_truth_changes_fn see;
  void *ctx;
  aii_truth_state *state;
} reader;

static aiinfra_status see_newer(void *ctx, const PGresult *result, int row, aiinfra_error *err)
{
  reader *r = ctx;
  aii_sql_value version, tables, uuid, at, changes;
  aii_pg_read(result, row, 0, AII_SQL_INT, &version);
  aii_pg_read(result, row, 1, AII_SQL_INT, &tables);
  aii_pg_read(result, row, 2, AII_SQL_BLOB, &uuid);
  aii_pg_read(result, row, 3, AII_SQL_INT, &at);
  aii_pg_read(result, row, 4, AII_SQL_BLOB, &changes);
  if (uuid.n != AII_TRUTH_UUID) return aii_fail(err, AIINFRA_EFORMAT, "the database in PostgreSQL has no identity");
  r->state->version = version.i;
  r->state->tables = tables.i;
  r->state->there = true;
  memcpy(r->state->uuid, uuid.p, AII_TRUTH_UUID);
  return at.type == AII_SQL_NULL ? AIINFRA_OK : r->see(r->ctx, at.i, changes.p, changes.n, err);
}

/* ---- open -------------------------------------------------------------------------------------------------------- */

static void pg_close(aii_truth *t)
{
  if (t == NULL) return;
  aii_pg_drop(t);
  aii_strfree(t->mem, t->uri);
  aii_strfree(t->mem, t->schema);
  aii_buf_free(&t->name);
  aii_buf_free(&t->sql);
  aii_buf_free(&t->value);
  aii_del(t->mem, t->prepared, t->cap_prepared * sizeof *t->prepared);
  aii_del(t->mem, t, sizeof *t);
}

/* The URI without user and password, as libpq understands it. */
static aiinfra_status write_name(aii_truth *t, aiinfra_error *err)
{
  const char *host = "", *port = "", *base = "";
  char *why = NULL;
  PQconninfoOption *given = PQconninfoParse(t->uri, &why);
  PQfreemem(why); /* it repeats the URI */
  if (given == NULL)
    return aii_fail(err, AIINFRA_EINVAL, "the URI of the database is not as postgres://user@host:port/name?key=value");
  for (PQconninfoOption *o = given; o->keyword != NULL; o++) {
    if (o->val == NULL) continue;
    if (strcmp(o->keyword, "host") == 0 || (strcmp(o->keyword, "hostaddr") == 0 && host[0] == '\0')) host = o->val;
    if (strcmp(o->keyword, "port") == 0) port = o->val;
    if (strcmp(o->keyword, "dbname") == 0) base = o->val;
  }
  aii_buf_fmt(&t->name, "postgres://%s%s%s/%s", host, port[0] != '\0' ? ":" : "", port, base);
  PQconninfoFree(given);
  return t->name.failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a name") : AIINFRA_OK;
}

static aiinfra_status pg_open(aii_mem *mem, const aii_truth_opts *opts, aii_truth **out, aiinfra_error *err)
{
  *out = NULL;
  aii_truth *t = aii_new(mem, sizeof *t);
  if (t == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a connection");
  t->mem = mem;
  t->opts = *opts;
  aii_buf_init(&t->name, mem, 0);
  aii_buf_init(&t->sql, mem, 0);
  aii_buf_init(&t->value, mem, 0);
  t->uri = aii_strdup(mem, opts->uri);
  t->schema = aii_strdup(mem, opts->schema);
  aiinfra_status rc = AIINFRA_OK;
  if (t->uri == NULL || t->schema == NULL) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a connection");
  if (rc == AIINFRA_OK) rc = write_name(t, err);
  if (rc == AIINFRA_OK) rc = aii_pg_connect(t, err);
  if (rc == AIINFRA_OK) *out = t;
  else pg_close(t);
  return rc;
}

static const char *pg_name(const aii_truth *t)
{
  return aii_buf_cstr(&t->name);
}

/* ---- what needs no transaction: tried again on a new connection ------------------------------------------------------ */

static aiinfra_status pg_state(aii_truth *t, aii_truth_state *state, aiinfra_error *err)
{
  aiinfra_status rc = aii_pg_connect(t, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_pg_state(t, state, err);
  if (rc != AIINFRA_EIO || t->conn != NULL) return rc;
  rc = aii_pg_connect(t, err);
  return rc == AIINFRA_OK ? aii_pg_state(t, state, err) : rc;
}

static aiinfra_status pg_make(aii_truth *t, const aii_truth_table *tables, size_t n, int64_t version,
                              const unsigned char uuid[AII_TRUTH_UUID], aiinfra_error *err)
{
  aiinfra_status rc = aii_pg_connect(t, err);
  return rc == AIINFRA_OK ? aii_pg_make(t, tables, n, version, uuid, err) : rc;
}

static aiinfra_status pg_types(aii_truth *t, aiinfra_error *err)
{
  aiinfra_status rc = aii_pg_connect(t, err);
  return rc == AIINFRA_OK ? aii_pg_types(t, err) : rc;
}

static aiinfra_status pull_once(aii_truth *t, int64_t since, reader *r, aiinfra_error *err)
{
  aii_pg_params params = {0};
  aii_pg_add_int(&params, since);
  aiinfra_status rc = aii_pg_connect(t, err);
  if (rc == AIINFRA_OK) rc = aii_pg_query(t, NEWER, &params, see_newer, r, err);
  if (rc == AIINFRA_OK && !r->state->there)
    rc = aii_fail(err, AIINFRA_ENOENT, "%s: the row of state is gone", aii_buf_cstr(&t->name));
  return rc;
}

static aiinfra_status pg_pull(aii_truth *t, int64_t since, aii_truth_changes_fn see, void *ctx, aii_truth_state *state,
                              aiinfra_error *err)
{
  reader r = {see, ctx, state};
  *state = (aii_truth_state){0};
  aiinfra_status rc = pull_once(t, since, &r, err);
  return rc == AIINFRA_EIO && t->conn == NULL && !state->there ? pull_once(t, since, &r, err) : rc;
}

/* ---- write transactions ------------------------------------------------------------------------------------------ */

static aiinfra_status begin_once(aii_truth *t, int64_t since, reader *r, aiinfra_error *err)
{
  aii_pg_params params = {0};
  aiinfra_error ignored;
  aii_pg_add_int(&params, since);
  aiinfra_status rc = aii_pg_connect(t, err);
  if (rc != AIINFRA_OK) return rc;
  t->types = 0;
  t->vector_type = 0;
  PGconn *c = t->conn;
  if (PQenterPipelineMode(c) == 0 || PQsendQueryParams(c, "BEGIN", 0, NULL, NULL, NULL, NULL, 1) == 0 ||
      PQsendQueryParams(c, "SELECT version FROM replica_state FOR UPDATE", 0, NULL, NULL, NULL, NULL, 1) == 0 ||
      PQsendQueryParams(c, AII_PG_TYPES_THERE, 0, NULL, NULL, NULL, NULL, 1) == 0 ||
      PQsendQueryParams(c, NEWER, 1, params.types, params.values, params.lengths, params.formats, 1) == 0 ||
      PQpipelineSync(c) == 0)
    return aii_pg_lost(t, "sending", err);
  static const aii_pg_row_fn see[] = {NULL, NULL, aii_pg_see_type, see_newer, NULL}; /* what each answer is for */
  void *const of[] = {NULL, NULL, t, r, NULL};
  for (size_t i = 0; i < AII_COUNT(see); i++) {
    aiinfra_status one = aii_pg_answer(t, see[i] != NULL, see[i], of[i], rc == AIINFRA_OK ? err : &ignored);
    if (rc == AIINFRA_OK) rc = one;
    if (t->conn == NULL) return rc;
  }
  if (PQexitPipelineMode(t->conn) == 0) return aii_pg_lost(t, NULL, rc == AIINFRA_OK ? err : &ignored);
  t->in_transaction = true;
  if (rc == AIINFRA_OK && !r->state->there)
    rc = aii_fail(err, AIINFRA_ENOENT, "%s: the row of state is gone", aii_buf_cstr(&t->name));
  if (rc != AIINFRA_OK) aii_pg_rollback(t);
  return rc;
}

static aiinfra_status pg_begin(aii_truth *t, int64_t since, aii_truth_changes_fn see, void *ctx, aii_truth_state *state,
                               aiinfra_error *err)
{
  reader r = {see, ctx, state};
  *state = (aii_truth_state){0};
  t->n_sent = 0;
  aiinfra_status rc = begin_once(t, since, &r, err);
  return rc == AIINFRA_EIO && t->conn == NULL && !state->there ? begin_once(t, since, &r, err) : rc;
}

/* ---- whole tables ------------------------------------------------------------------------------------------------ */

static aiinfra_status pg_view(aii_truth *t, aii_truth_state *state, aiinfra_error *err)
{
  aiinfra_status rc = aii_pg_connect(t, err);
  if (rc != AIINFRA_OK) return rc;
  if (!t->in_transaction) rc = aii_pg_exec(t, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err);
  t->in_view = rc == AIINFRA_OK && !t->in_transaction;
  return rc == AIINFRA_OK ? aii_pg_state(t, state, err) : rc;
}

static void pg_unview(aii_truth *t)
{
  aiinfra_error ignored;
  if (t->in_view && t->conn != NULL) (void)aii_pg_exec(t, "ROLLBACK", &ignored);
  t->in_view = false;
}

typedef struct table_reader {
  const aii_truth_table *table;
  aii_truth_row_fn see;
  void *ctx;
} table_reader;

static aiinfra_status see_row(void *ctx, const PGresult *result, int row, aiinfra_error *err)
{
  const table_reader *r = ctx;
  aii_sql_value values[AII_PG_PARAMS];
  for (size_t i = 0; i < r->table->n; i++) aii_pg_read(result, row, (int)i, r->table->columns[i].type, &values[i]);
  return r->see(r->ctx, values, err);
}

static aiinfra_status pg_rows(aii_truth *t, const aii_truth_table *table, aii_truth_row_fn see, void *ctx,
                              aiinfra_error *err)
{
  table_reader r = {table, see, ctx};
  if (table->n > AII_PG_PARAMS)
    return aii_fail(err, AIINFRA_EINTERNAL, "table %s has %zu columns", table->name, table->n);
  aii_buf_clear(&t->sql);
  for (size_t i = 0; i < table->n; i++) {
    aii_buf_str(&t->sql, i > 0 ? ", " : "SELECT ");
    aii_pg_quote(&t->sql, table->columns[i].name);
  }
  aii_buf_str(&t->sql, " FROM ");
  aii_pg_quote(&t->sql, table->name);
  if (t->sql.failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a statement");
  return aii_pg_query(t, t->sql.data, NULL, see_row, &r, err);
}

static aiinfra_status pg_sequences(aii_truth *t, aii_truth_row_fn see, void *ctx, aiinfra_error *err)
{
  static aii_truth_column columns[] = {{.name = (char *)(uintptr_t) "name", .type = AII_SQL_TEXT},
                                       {.name = (char *)(uintptr_t) "last", .type = AII_SQL_INT}};
  static const aii_truth_table table = {.name = (char *)(uintptr_t) "replica_sequences", .columns = columns, .n = 2};
  return pg_rows(t, &table, see, ctx, err);
}

__attribute__((visibility("default"))) const aii_truth_plugin *aii_postgres_plugin_table(void);
const aii_truth_plugin *aii_postgres_plugin_table(void)
{
  static const aii_truth_plugin table = {
      .version = AIINFRA_VERSION_STRING,
      .ops_size = sizeof(aii_truth_ops),
      .value_size = sizeof(aii_sql_value),
      .table_size = sizeof(aii_truth_table),
      .ops = {.open = pg_open,
              .close = pg_close,
              .name = pg_name,
              .state = pg_state,
              .make = pg_make,
              .pull = pg_pull,
              .begin = pg_begin,
              .write = aii_pg_write,
              .sequence = aii_pg_sequence,
              .commit = aii_pg_commit,
              .rollback = aii_pg_rollback,
              .view = pg_view,
              .rows = pg_rows,
              .sequences = pg_sequences,
              .unview = pg_unview,
              .types = pg_types,
              .typed = aii_pg_is_typed,
              .check_types = aii_pg_check_types},
  };
  return &table;
}
