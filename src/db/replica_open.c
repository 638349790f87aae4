/* replica_open.c - opens a database that a URI names: postgres://user@host:port/name?key=value.
 *
 * Our keys are taken out of the URI, libpq gets the rest: sync_ms (a look at the server is good for so long), replica
 * (the file of the local copy, or "memory"), schema (where the tables lie), plugin (the
 * plug-in's file, by its absolute path). Then: the plug-in -> the server -> the local
 * copy, with the tables of this version -> the server's tables, made or told apart -> the first pull.
 *
 * A local copy holds nothing that the server has not: one that is damaged is removed and filled again. What can fail:
 * there is no plug-in, no server, no right to make tables, a newer library made them. Any thread, no lock held.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/db/replica.h"

enum { SYNC_MS = 100, MAX_SYNC_MS = 3600000, MAX_NAME = 63 }; /* names: of PostgreSQL */

typedef struct uri {
  aii_buf rest, replica, schema, plugin; /* rest: for libpq */
  uint32_t sync_ms;
} uri;

bool aii_replica_is_uri(const char *path)
{
  return strncmp(path, "postgres://", 11) == 0 || strncmp(path, "postgresql://", 13) == 0;
}

/* ---- the URI ----------------------------------------------------------------------------------------------------- */

static int hex(char c)
{
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void decode(aii_buf *out, const char *s, size_t n)
{
  aii_buf_clear(out);
  for (size_t i = 0; i < n; i++) {
    bool code = s[i] == '%' && i + 2 < n + 0 && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0;
    aii_buf_char(out, code ? (char)(hex(s[i + 1]) * 16 + hex(s[i + 2])) : s[i]);
    if (code) i += 2;
  }
}

/* Takes "key=value" when the key is one of ours. */
static aiinfra_status take(uri *u, const char *s, size_t n, bool *ours, aiinfra_error *err)
{
  *ours = true;
  if (n > 8 && strncmp(s, "replica=", 8) == 0) {
    decode(&u->replica, s + 8, n - 8);
  } else if (n > 7 && strncmp(s, "plugin=", 7) == 0) {
    decode(&u->plugin, s + 7, n - 7);
  } else if (n > 7 && strncmp(s, "schema=", 7) == 0) {
    decode(&u->schema, s + 7, n - 7);
    if (u->schema.len > MAX_NAME) return aii_fail(err, AIINFRA_EINVAL, "schema is longer than %d bytes", MAX_NAME);
  } else if (n > 8 && strncmp(s, "sync_ms=", 8) == 0) {
    u->sync_ms = 0;
    for (size_t i = 8; i < n; i++) {
      if (s[i] < '0' || s[i] > '9' || u->sync_ms > MAX_SYNC_MS)
        return aii_fail(err, AIINFRA_EINVAL, "sync_ms is a number up to %d", MAX_SYNC_MS);
      u->sync_ms = u->sync_ms * 10 + (uint32_t)(s[i] - '0');
    }
    if (u->sync_ms > MAX_SYNC_MS) return aii_fail(err, AIINFRA_EINVAL, "sync_ms is a number up to %d", MAX_SYNC_MS);
  } else {
    *ours = false;
  }
  return AIINFRA_OK;
}

static aiinfra_status read_uri(uri *u, aii_mem *mem, const char *path, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  bool ours, any = false;
  aii_buf_init(&u->rest, mem, 0);
  aii_buf_init(&u->replica, mem, 0);
  aii_buf_init(&u->schema, mem, 0);
  aii_buf_init(&u->plugin, mem, 0);
  u->sync_ms = SYNC_MS;
  size_t n = strcspn(path, "?");
  aii_buf_add(&u->rest, path, n);
  for (const char *s = path + n; rc == AIINFRA_OK && *s != '\0'; s += n) {
    n = strcspn(++s, "&");
    rc = take(u, s, n, &ours, err);
    if (rc != AIINFRA_OK || ours || n == 0) continue;
    aii_buf_char(&u->rest, any ? '&' : '?');
    aii_buf_add(&u->rest, s, n);
    any = true;
  }
  if (u->schema.len == 0) aii_buf_str(&u->schema, "aiinfra");
  if (rc == AIINFRA_OK && (u->rest.failed || u->replica.failed || u->schema.failed || u->plugin.failed))
    rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a URI");
  return rc;
}

static void free_uri(uri *u)
{
  aii_buf_free(&u->rest);
  aii_buf_free(&u->replica);
  aii_buf_free(&u->schema);
  aii_buf_free(&u->plugin);
}

/* ---- the plug-in and the server ---------------------------------------------------------------------------------- */

static aiinfra_status open_plugin(const uri *u, const aii_truth_ops **ops, aiinfra_error *err)
{
  const void *found;
  const char *path = u->plugin.len > 0 ? u->plugin.data : NULL;
  static const aii_truth_plugin ours = {
      AIINFRA_VERSION_STRING, sizeof(aii_truth_ops), sizeof(aii_sql_value), sizeof(aii_truth_table), {0}};
  aiinfra_status rc = aii_library_open(path, AII_POSTGRES_LIBRARY, AII_POSTGRES_ENTRY, "postgres", &found, err);
  if (rc != AIINFRA_OK) {
    return aii_wrap(err, rc,
                    "a database in PostgreSQL needs " AII_POSTGRES_LIBRARY " and libpq (Debian: libpq5, to build "
                    "it libpq-dev)");
  }
  const aii_truth_plugin *plugin = found;
  if (memcmp(plugin, &ours, offsetof(aii_truth_plugin, ops)) != 0)
    return aii_fail(err, AIINFRA_ENOTSUP, AII_POSTGRES_LIBRARY " is of another version: install both from one build");
  if (!aii_sql_can_capture())
    return aii_fail(
        err, AIINFRA_ENOTSUP,
        "a database in PostgreSQL needs an SQLite with the session extension (Debian's has it; compile with "
        "SQLITE_ENABLE_SESSION and SQLITE_ENABLE_PREUPDATE_HOOK)");
  *ops = &plugin->ops;
  return AIINFRA_OK;
}

/* ---- the file of the copy ---------------------------------------------------------------------------------------- */

/* The folder of copies, made if need be: it is the user's alone. false: there is none. */
static bool make_folder(aii_buf *path)
{
  const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  if (cache != NULL && cache[0] == '/') aii_buf_str(path, cache);
  else if (home != NULL && home[0] == '/') aii_buf_fmt(path, "%s/.cache", home);
  else return false;
  if (path->failed || (mkdir(path->data, 0700) != 0 && errno != EEXIST)) return false;
  aii_buf_str(path, "/aiinfra");
  return !path->failed && (mkdir(path->data, 0700) == 0 || errno == EEXIST);
}

static aiinfra_status find_file(const aii_replica *r, const uri *u, aii_buf *path, aiinfra_error *err)
{
  const char *name = r->ops->name(r->truth);
  uint64_t hash = aii_hash64(name, strlen(name), aii_hash64(u->schema.data, u->schema.len, 0));
  if (u->replica.len > 0 && strcmp(u->replica.data, "memory") != 0) {
    aii_buf_str(path, u->replica.data);
  } else if (u->replica.len > 0 || !make_folder(path)) {
    aii_buf_clear(path);
    aii_buf_str(path, ":memory:");
  } else {
    aii_buf_fmt(path, "/%016llx.db", (unsigned long long)hash);
  }
  return path->failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a path") : AIINFRA_OK;
}

static aiinfra_status check_is_copy(aii_sql *sql, aiinfra_error *err)
{
  int64_t others = 0;
  aiinfra_status rc = aii_db_ask_int(sql,
                                     "SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE name = 'runs') AND NOT EXISTS"
                                     "(SELECT 1 FROM sqlite_schema WHERE name = 'replica')",
                                     &others, err);
  if (rc != AIINFRA_OK || others == 0) return rc;
  return aii_fail(err, AIINFRA_EEXIST, "it is a database of its own, not a copy: name another file by replica=");
}

static aiinfra_status open_copy(aii_replica *r, const char *path, const aii_sql_opts *opts, aiinfra_error *err)
{
  aii_sql_opts own = *opts;
  own.read_only = own.must_exist = own.synchronous_full = false; /* the server has it */
  aiinfra_status rc = aii_sql_open(r->mem, path, &own, &r->sql, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(r->sql);
  rc = aii_db_check_pages(r->sql, true, err);
  if (rc == AIINFRA_OK) rc = check_is_copy(r->sql, err);
  if (rc == AIINFRA_OK) {
    rc = aii_sql_exec(r->sql,
                      "CREATE TABLE IF NOT EXISTS replica(one INTEGER PRIMARY KEY CHECK(one = 1),"
                      " version INTEGER NOT NULL, truth BLOB NOT NULL) STRICT",
                      err);
  }
  if (rc == AIINFRA_OK) rc = aii_db_migrate(r->sql, false, err);
  aii_sql_unlock(r->sql);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "local copy %s", path);
}

static void remove_file(aii_mem *mem, const char *path)
{
  (void)unlink(path);
  aii_db_remove_beside(mem, path);
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static aiinfra_status check_server(aii_replica *r, const aii_sql_opts *opts, aii_truth_state *state, aiinfra_error *err)
{
  int64_t ours = (int64_t)aii_db_version();
  aiinfra_status rc = r->ops->state(r->truth, state, err);
  if (rc != AIINFRA_OK) return rc;
  const char *name = r->ops->name(r->truth);
  if (!state->there && (opts->must_exist || opts->read_only))
    return aii_fail(err, AIINFRA_ENOENT, "%s: there are no tables of ours; open it once without must_exist", name);
  if (state->tables > ours) {
    return aii_fail(err, AIINFRA_ENOTSUP,
                    "%s: the tables have version %lld, this library (%s) knows up to %lld; use a newer library", name,
                    (long long)state->tables, AIINFRA_VERSION_STRING, (long long)ours);
  }
  if (state->tables < ours && opts->read_only)
    return aii_fail(err, AIINFRA_ENOTSUP,
                    "%s: the tables have version %lld and must be brought to %lld; open it once "
                    "without read_only",
                    name, (long long)state->tables, (long long)ours);
  return AIINFRA_OK;
}

static aiinfra_status make_tables(aii_replica *r, aiinfra_error *err)
{
  unsigned char uuid[AII_TRUTH_UUID];
  aii_stmt *stmt;
  bool row = false;
  size_t n = 0;
  aiinfra_status rc = aii_sql_prepare(r->sql, "SELECT randomblob(16)", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_stmt_step(stmt, &row, err);
  const void *p = rc == AIINFRA_OK && row ? aii_stmt_get_blob(stmt, 0, &n) : NULL;
  if (n == sizeof uuid) memcpy(uuid, p, n);
  else if (rc == AIINFRA_OK) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for an identity");
  aii_stmt_reset(stmt);
  return rc == AIINFRA_OK ? r->ops->make(r->truth, r->tables.items, r->tables.n, (int64_t)aii_db_version(), uuid, err)
                          : rc;
}

static aiinfra_status open_all(aii_replica *r, const char *path, const aii_sql_opts *opts, aiinfra_error *err)
{
  aii_truth_state state;
  aiinfra_status rc = check_server(r, opts, &state, err);
  if (rc != AIINFRA_OK) return rc;
  rc = open_copy(r, path, opts, err);
  if (rc == AIINFRA_EFORMAT) {
    aii_sql_close(r->sql);
    r->sql = NULL;
    remove_file(r->mem, path);
    rc = open_copy(r, path, opts, err);
  }
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(r->sql);
  rc = aii_tables_read(&r->tables, r->sql, r->mem, err);
  if (rc == AIINFRA_OK && (!state.there || state.tables < (int64_t)aii_db_version())) rc = make_tables(r, err);
  if (rc == AIINFRA_OK && !opts->read_only) rc = r->ops->types(r->truth, err);
  if (rc == AIINFRA_OK) rc = aii_replica_pull(r, err);
  if (rc == AIINFRA_OK) aii_replica_hook(r, opts->read_only);
  aii_sql_unlock(r->sql);
  return rc;
}

static void new_node(unsigned char node[AII_TRUTH_NODE])
{
  struct {
    uint64_t now, where;
    int64_t pid;
  } seed = {aii_now_ns(), (uint64_t)(uintptr_t)node, (int64_t)getpid()};
  aii_rng rng;
  aii_rng_seed(&rng, aii_hash64(&seed, sizeof seed, (uint64_t)aii_unix_ms()));
  for (size_t i = 0; i < AII_TRUTH_NODE; i++) node[i] = (unsigned char)aii_rng_u64(&rng);
}

aiinfra_status aii_replica_open(aii_mem *mem, const char *path, const aii_sql_opts *opts, aii_replica **out,
                                aiinfra_error *err)
{
  uri u = {0};
  aii_buf file;
  *out = NULL;
  aii_replica *r = aii_new(mem, sizeof *r);
  if (r == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a database");
  r->mem = mem;
  aii_buf_init(&file, mem, 0);
  aiinfra_status rc = read_uri(&u, mem, path, err);
  if (rc == AIINFRA_OK) rc = open_plugin(&u, &r->ops, err);
  if (rc == AIINFRA_OK) {
    aii_truth_opts truth = {.uri = u.rest.data,
                            .schema = u.schema.data,
                            .timeout_ms = opts->busy_timeout_ms,
                            .read_only = opts->read_only,
                            .synchronous = opts->synchronous_full};
    new_node(truth.node);
    r->sync_ns = (uint64_t)u.sync_ms * 1000000;
    rc = r->ops->open(mem, &truth, &r->truth, err);
  }
  if (rc == AIINFRA_OK) rc = find_file(r, &u, &file, err);
  if (rc == AIINFRA_OK) rc = open_all(r, file.data, opts, err);
  free_uri(&u);
  aii_buf_free(&file);
  if (rc == AIINFRA_OK) *out = r;
  else aii_replica_close(r);
  return rc;
}

void aii_replica_close(aii_replica *r)
{
  if (r == NULL) return;
  if (r->sql != NULL) aii_sql_set_hooks(r->sql, NULL, NULL, false);
  aii_sql_close(r->sql);
  if (r->truth != NULL) r->ops->close(r->truth);
  aii_tables_free(&r->tables);
  aii_del(r->mem, r, sizeof *r);
}

aii_sql *aii_replica_sql(aii_replica *r)
{
  return r->sql;
}

const char *aii_replica_name(const aii_replica *r)
{
  return r->ops->name(r->truth);
}
