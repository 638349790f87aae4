/* link.c - the connection to PostgreSQL: made, used and lost with a bounded wait.
 *
 * Everything is sent and received without blocking in libpq, so that a server that is silent costs timeout_ms and no
 * more. While much is sent, what comes back is taken in: neither side fills its buffers and waits for the other.
 *
 * What can fail: the server is not there or goes away (EIO; the next call tries anew), it is busy for too long (EBUSY),
 * it refuses a statement. libpq's words for a failed connection name host and user, never the password; what it says of
 * a URI that it cannot read is not repeated, since that shows parts of it. One thread at a time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>

#include "src/db/postgres/postgres.h"

enum { OID_BYTEA = 17, OID_INT8 = 20, OID_TEXT = 25, OID_FLOAT8 = 701, MAX_SETTINGS = 60 };

/* ---- values ------------------------------------------------------------------------------------------------------ */

static void put_be64(unsigned char out[8], uint64_t value)
{
  for (int i = 0; i < 8; i++) out[i] = (unsigned char)(value >> (56 - 8 * i));
}

static uint64_t get_be64(const char *from)
{
  uint64_t value = 0;
  for (int i = 0; i < 8; i++) value = value << 8 | (unsigned char)from[i];
  return value;
}

static void add(aii_pg_params *params, Oid type, const void *p, size_t n)
{
  if (params->n == AII_PG_PARAMS) return;
  params->types[params->n] = type;
  params->values[params->n] = p;
  params->lengths[params->n] = (int)AII_MIN(n, (size_t)INT32_MAX);
  params->formats[params->n++] = 1;
}

void aii_pg_add_int(aii_pg_params *params, int64_t value)
{
  if (params->n == AII_PG_PARAMS) return;
  put_be64(params->numbers[params->n], (uint64_t)value);
  add(params, OID_INT8, params->numbers[params->n], 8);
}

void aii_pg_add_blob(aii_pg_params *params, const void *p, size_t n)
{
  add(params, OID_BYTEA, p != NULL ? p : "", n);
}

void aii_pg_add(aii_pg_params *params, const aii_sql_value *value)
{
  uint64_t bits;
  switch (value->type) {
    case AII_SQL_INT: aii_pg_add_int(params, value->i); break;
    case AII_SQL_REAL:
      if (params->n == AII_PG_PARAMS) break;
      memcpy(&bits, &value->r, sizeof bits);
      put_be64(params->numbers[params->n], bits);
      add(params, OID_FLOAT8, params->numbers[params->n], 8);
      break;
    case AII_SQL_TEXT: add(params, OID_TEXT, value->p != NULL ? value->p : "", value->n); break;
    case AII_SQL_BLOB: aii_pg_add_blob(params, value->p, value->n); break;
    case AII_SQL_ABSENT:
    case AII_SQL_NULL: add(params, 0, NULL, 0); break;
  }
}

void aii_pg_read(const PGresult *result, int row, int column, aii_sql_type type, aii_sql_value *value)
{
  *value = (aii_sql_value){.type = AII_SQL_NULL};
  if (PQgetisnull(result, row, column)) return;
  const char *p = PQgetvalue(result, row, column);
  int n = PQgetlength(result, row, column);
  if ((type == AII_SQL_INT || type == AII_SQL_REAL) && n != 8) return;
  *value = (aii_sql_value){.type = type, .p = p, .n = (size_t)n};
  if (type == AII_SQL_INT) value->i = (int64_t)get_be64(p);
  if (type == AII_SQL_REAL) {
    uint64_t bits = get_be64(p);
    memcpy(&value->r, &bits, sizeof bits);
  }
}

void aii_pg_quote(aii_buf *buf, const char *name)
{
  aii_buf_char(buf, '"');
  for (; *name != '\0'; name++) {
    if (*name == '"') aii_buf_char(buf, '"');
    aii_buf_char(buf, *name);
  }
  aii_buf_char(buf, '"');
}

/* ---- what failed ------------------------------------------------------------------------------------------------- */

/* The first line of a message, without its end. */
static int line_of(const char *message)
{
  size_t n = strcspn(message, "\n");
  return (int)AII_MIN(n, (size_t)300);
}

static aiinfra_status status_of(const char *state)
{
  static const struct {
    const char *state;
    aiinfra_status status;
  } known[] = {
      {"55P03", AIINFRA_EBUSY},  {"40", AIINFRA_EBUSY},     {"53100", AIINFRA_ENOSPC}, {"53", AIINFRA_EBUSY},
      {"22021", AIINFRA_EINVAL}, {"22P05", AIINFRA_EINVAL}, {"54", AIINFRA_ELIMIT},    {"23", AIINFRA_EFORMAT},
      {"25006", AIINFRA_EIO},    {"3D000", AIINFRA_ENOENT}, {"3F000", AIINFRA_ENOENT}, {"42P01", AIINFRA_ENOENT},
      {"42501", AIINFRA_EIO},    {"08", AIINFRA_EIO},       {"57", AIINFRA_EIO},       {"28", AIINFRA_EIO},
      {"25P03", AIINFRA_EIO},    {"57014", AIINFRA_EBUSY},  {"58", AIINFRA_EIO},       {"42703", AIINFRA_EBUSY},
      {"42704", AIINFRA_EBUSY},
  };
  for (size_t i = 0; state != NULL && i < AII_COUNT(known); i++) {
    if (strncmp(state, known[i].state, strlen(known[i].state)) == 0) return known[i].status;
  }
  return AIINFRA_EINTERNAL;
}

aiinfra_status aii_pg_told(aii_truth *t, const PGresult *result, aiinfra_error *err)
{
  ExecStatusType status = PQresultStatus(result);
  if (status != PGRES_FATAL_ERROR && status != PGRES_BAD_RESPONSE && status != PGRES_NONFATAL_ERROR) return AIINFRA_OK;
  const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  if (state == NULL) return aii_pg_lost(t, NULL, err);
  aiinfra_status rc = status_of(state);
  if (message == NULL) message = "";
  if (strcmp(state, "55P03") == 0)
    return aii_fail(err, rc,
                    "%s: another node has been writing for longer than %u ms; try again or raise "
                    "busy_timeout_ms",
                    aii_buf_cstr(&t->name), t->opts.timeout_ms);
  const char *cure = "";
  if (strcmp(state, "58P01") == 0 && strstr(message, "vector") != NULL)
    cure = "; install pgvector on the server again, or run DROP EXTENSION vector CASCADE, which loses none of our data";
  return aii_fail(err, rc, "%s: PostgreSQL says: %.*s (%s)%s", aii_buf_cstr(&t->name), line_of(message), message, state,
                  cure);
}

aiinfra_status aii_pg_lost(aii_truth *t, const char *doing, aiinfra_error *err)
{
  const char *message = t->conn != NULL ? PQerrorMessage(t->conn) : "";
  aiinfra_status rc =
      aii_fail(err, AIINFRA_EIO, "%s: the connection was lost%s%s%s%.*s; try again when the server is there",
               aii_buf_cstr(&t->name), doing != NULL ? " while " : "", doing != NULL ? doing : "",
               message[0] != '\0' ? ": " : "", line_of(message), message);
  aii_pg_drop(t);
  return rc;
}

void aii_pg_drop(aii_truth *t)
{
  if (t->conn != NULL) PQfinish(t->conn);
  t->conn = NULL;
  t->in_transaction = t->in_view = false;
  t->n_prepared = 0;
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

/* 1: ready, 0: the time is over, -1: it failed. */
static int wait_for(int fd, short events, uint64_t until_ns)
{
  struct pollfd p = {.fd = fd, .events = events};
  for (;;) {
    uint64_t now = aii_now_ns();
    int ms = now >= until_ns ? 0 : (int)AII_MIN((until_ns - now) / 1000000 + 1, (uint64_t)INT32_MAX);
    int n = poll(&p, 1, ms);
    if (n > 0) return 1;
    if (n < 0 && errno != EINTR) return -1;
    if (n == 0 && ms == 0) return 0;
  }
}

/* A lock may take timeout_ms by itself; the answer that tells so needs time too. */
static uint64_t deadline(const aii_truth *t)
{
  return aii_now_ns() + ((uint64_t)t->opts.timeout_ms + 5000) * 1000000;
}

/* A server that takes some of it, or answers, is not silent: much may be on its way, and each row cost it an index. */
aiinfra_status aii_pg_flush(aii_truth *t, aiinfra_error *err)
{
  for (;;) {
    int left = PQflush(t->conn);
    if (left == 0) return AIINFRA_OK;
    if (left < 0) return aii_pg_lost(t, "sending", err);
    int ready = wait_for(PQsocket(t->conn), POLLIN | POLLOUT, deadline(t));
    if (ready <= 0) return aii_pg_lost(t, "sending", err);
    if (PQconsumeInput(t->conn) == 0) return aii_pg_lost(t, "sending", err);
  }
}

aiinfra_status aii_pg_next(aii_truth *t, PGresult **out, aiinfra_error *err)
{
  *out = NULL;
  if (t->conn == NULL) return aii_pg_lost(t, NULL, err);
  aiinfra_status rc = aii_pg_flush(t, err);
  uint64_t until = deadline(t);
  while (rc == AIINFRA_OK && PQisBusy(t->conn)) {
    if (wait_for(PQsocket(t->conn), POLLIN, until) <= 0) return aii_pg_lost(t, "waiting for an answer", err);
    if (PQconsumeInput(t->conn) == 0) return aii_pg_lost(t, NULL, err);
  }
  if (rc == AIINFRA_OK) *out = PQgetResult(t->conn);
  if (rc == AIINFRA_OK && *out == NULL && PQstatus(t->conn) != CONNECTION_OK) return aii_pg_lost(t, NULL, err);
  return rc;
}

/* ---- statements -------------------------------------------------------------------------------------------------- */

aiinfra_status aii_pg_answer(aii_truth *t, bool rows, aii_pg_row_fn see, void *ctx, aiinfra_error *err)
{
  PGresult *result;
  aiinfra_error ignored;
  aiinfra_status rc = AIINFRA_OK;
  if (rows) (void)PQsetSingleRowMode(t->conn);
  for (;;) {
    aiinfra_status got = aii_pg_next(t, &result, rc == AIINFRA_OK ? err : &ignored);
    if (got != AIINFRA_OK) return rc == AIINFRA_OK ? got : rc;
    if (result == NULL) return rc;
    if (rc == AIINFRA_OK) rc = aii_pg_told(t, result, err);
    for (int row = 0; rc == AIINFRA_OK && see != NULL && row < PQntuples(result); row++)
      rc = see(ctx, result, row, err);
    ExecStatusType status = PQresultStatus(result);
    if (rc == AIINFRA_OK && status == PGRES_PIPELINE_ABORTED)
      rc = aii_fail(err, AIINFRA_EIO, "%s: a statement before this one failed", aii_buf_cstr(&t->name));
    PQclear(result);
    if (t->conn == NULL || status == PGRES_PIPELINE_SYNC) return rc;
  }
}

aiinfra_status aii_pg_exec(aii_truth *t, const char *statements, aiinfra_error *err)
{
  if (t->conn == NULL || PQsendQuery(t->conn, statements) == 0) return aii_pg_lost(t, "sending", err);
  return aii_pg_answer(t, false, NULL, NULL, err);
}

aiinfra_status aii_pg_query(aii_truth *t, const char *statement, const aii_pg_params *params, aii_pg_row_fn see,
                            void *ctx, aiinfra_error *err)
{
  static const aii_pg_params none;
  const aii_pg_params *p = params != NULL ? params : &none;
  if (t->conn == NULL ||
      PQsendQueryParams(t->conn, statement, p->n, p->types, p->values, p->lengths, p->formats, 1) == 0)
    return aii_pg_lost(t, "sending", err);
  return aii_pg_answer(t, true, see, ctx, err);
}

/* ---- connecting -------------------------------------------------------------------------------------------------- */

static aiinfra_status fail_connect(aii_truth *t, bool late, aiinfra_error *err)
{
  const char *message = t->conn != NULL ? PQerrorMessage(t->conn) : "";
  aiinfra_status rc =
      late ? aii_fail(err, AIINFRA_EIO, "%s: no answer within %u ms; check the host, its port and the network",
                      aii_buf_cstr(&t->name), t->opts.timeout_ms)
           : aii_fail(err, AIINFRA_EIO, "%s: no connection: %.*s", aii_buf_cstr(&t->name), line_of(message), message);
  aii_pg_drop(t);
  return rc;
}

/* The settings of the URI, with ours beside them. */
static PGconn *start(const aii_truth *t)
{
  const char *keys[MAX_SETTINGS + 8], *values[MAX_SETTINGS + 8];
  int n = 0;
  char *why = NULL;
  static const char *const ours[][2] = {{"application_name", "aiinfra"},
                                        {"keepalives_idle", "30"},
                                        {"keepalives_interval", "10"},
                                        {"keepalives_count", "3"},
                                        {"tcp_user_timeout", "30000"}};
  PQconninfoOption *given = PQconninfoParse(t->uri, &why);
  PQfreemem(why);
  for (size_t i = 0; i < AII_COUNT(ours); i++) {
    keys[n] = ours[i][0]; /* the later of two counts */
    values[n++] = ours[i][1];
  }
  for (PQconninfoOption *o = given; o != NULL && o->keyword != NULL && n < MAX_SETTINGS; o++) {
    if (o->val == NULL || o->val[0] == '\0') continue;
    keys[n] = o->keyword;
    values[n++] = o->val;
  }
  keys[n] = "client_encoding";
  values[n++] = "UTF8";
  keys[n] = values[n] = NULL;
  PGconn *conn = given != NULL ? PQconnectStartParams(keys, values, 0) : NULL;
  PQconninfoFree(given);
  return conn;
}

static aiinfra_status greet(aii_truth *t, aiinfra_error *err)
{
  aii_buf_clear(&t->sql);
  aii_buf_str(&t->sql, "SET search_path TO ");
  aii_pg_quote(&t->sql, t->schema);
  aii_buf_fmt(&t->sql,
              "; SET lock_timeout = %u; SET idle_in_transaction_session_timeout = 60000; SET synchronous_commit = %s;"
              " SET client_min_messages = warning; SET aiinfra.typed = on%s", /* for the trigger in types.c */
              t->opts.timeout_ms, t->opts.synchronous ? "on" : "off",
              t->opts.read_only ? "; SET default_transaction_read_only = on" : "");
  if (t->sql.failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a statement");
  return aii_pg_exec(t, t->sql.data, err);
}

static void silence(void *ctx, const PGresult *notice)
{
  (void)ctx;
  (void)notice;
}

aiinfra_status aii_pg_connect(aii_truth *t, aiinfra_error *err)
{
  if (t->conn != NULL && PQstatus(t->conn) == CONNECTION_OK) return AIINFRA_OK;
  aii_pg_drop(t);
  uint64_t until = aii_now_ns() + (uint64_t)t->opts.timeout_ms * 1000000;
  t->conn = start(t);
  if (t->conn == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a connection to %s", aii_buf_cstr(&t->name));
  (void)PQsetNoticeReceiver(t->conn, silence, NULL);
  if (PQstatus(t->conn) == CONNECTION_BAD) return fail_connect(t, false, err);
  for (PostgresPollingStatusType at = PGRES_POLLING_WRITING; at != PGRES_POLLING_OK; at = PQconnectPoll(t->conn)) {
    if (at == PGRES_POLLING_FAILED) return fail_connect(t, false, err);
    if (wait_for(PQsocket(t->conn), at == PGRES_POLLING_READING ? POLLIN : POLLOUT, until) <= 0)
      return fail_connect(t, true, err);
  }
  if (PQsetnonblocking(t->conn, 1) != 0) return fail_connect(t, false, err);
  if (PQserverVersion(t->conn) < 120000) {
    aiinfra_status rc = aii_fail(err, AIINFRA_ENOTSUP, "%s: the server has version %d, at least 12 is needed",
                                 aii_buf_cstr(&t->name), PQserverVersion(t->conn) / 10000);
    aii_pg_drop(t);
    return rc;
  }
  aiinfra_status rc = greet(t, err);
  if (rc != AIINFRA_OK) aii_pg_drop(t);
  return rc;
}
