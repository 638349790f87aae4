/* memory.c - opening the memory of a scope: its row, and the collection that holds its texts. Any thread. */
#include "src/memory/memory.h"

/* Names the way texts are embedded: vectors made in another way must never be compared with these. */
#define COLLECTION "@memory/hash1/"
#define PAST "@memory/hash1-past/"

static aiinfra_status find_scope(aiinfra_memory *memory, const char *scope, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(memory->db->sql, "SELECT id FROM scopes WHERE name = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 1, scope, strlen(scope));
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) memory->scope = aii_stmt_get_int(stmt, 0);
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status create_scope(aiinfra_memory *memory, const char *scope, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql, "INSERT INTO scopes(name) VALUES(?1) ON CONFLICT DO NOTHING", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 1, scope, strlen(scope));
  rc = aii_stmt_run_alone(stmt, err);
  return rc == AIINFRA_OK ? find_scope(memory, scope, err) : rc;
}

static aiinfra_status open_store(aiinfra_memory *memory, const char *prefix, bool create, aiinfra_vecstore **out,
                                 aiinfra_error *err)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aii_buf name;
  opts.dims = create ? AII_EMBED_DIMS : 0;
  opts.metric = AIINFRA_METRIC_COSINE;
  aii_buf_init(&name, &memory->db->rt->mem, 0);
  aii_buf_str(&name, prefix);
  aii_buf_str(&name, memory->name);
  aiinfra_status rc = name.failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a scope") : AIINFRA_OK;
  if (rc == AIINFRA_OK) rc = aii_vecstore_open(memory->db, aii_buf_cstr(&name), &opts, out, err);
  aii_buf_free(&name);
  return rc;
}

aiinfra_status aii_memory_open_past(aiinfra_memory *memory, bool create, aiinfra_error *err)
{
  aiinfra_vecstore *past = NULL;
  aii_sql_lock(memory->db->sql);
  bool open = memory->past != NULL;
  aii_sql_unlock(memory->db->sql);
  if (open) return AIINFRA_OK;
  aiinfra_status rc = open_store(memory, PAST, create, &past, err);
  if (rc == AIINFRA_ENOENT && !create) return AIINFRA_OK;
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(memory->db->sql);
  if (memory->past == NULL) {
    memory->past = past;
    past = NULL;
  }
  aii_sql_unlock(memory->db->sql);
  aii_vecstore_free(past); /* another thread was faster */
  return AIINFRA_OK;
}

int64_t aii_memory_past(const aiinfra_memory *memory)
{
  return memory->past != NULL ? memory->past->collection : -1;
}

void aii_bind_times(aii_stmt *stmt, int64_t as_of_ms, int64_t known_at_ms)
{
  int64_t now = aii_unix_ms();
  aii_stmt_int(stmt, 10, now);
  aii_stmt_int(stmt, 11, as_of_ms != 0 ? as_of_ms : now);
  aii_stmt_int(stmt, 12, as_of_ms != 0);
  aii_stmt_int(stmt, 13, known_at_ms);
  aii_stmt_int(stmt, 14, known_at_ms != 0);
}

aiinfra_status aii_memory_open(aiinfra_db *db, const char *scope, aiinfra_memory **out, aiinfra_error *err)
{
  *out = NULL;
  aiinfra_memory *memory = aii_new(&db->rt->mem, sizeof *memory);
  if (memory == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a memory");
  atomic_store(&memory->refs, 1);
  memory->db = db;
  aii_db_ref(db);
  memory->name = aii_strdup(&db->rt->mem, scope);
  aiinfra_status rc = memory->name != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for a scope");
  aii_sql_lock(db->sql);
  if (rc == AIINFRA_OK) rc = find_scope(memory, scope, err);
  if (rc == AIINFRA_OK && memory->scope == 0) rc = create_scope(memory, scope, err);
  aii_sql_unlock(db->sql);
  if (rc == AIINFRA_OK) rc = open_store(memory, COLLECTION, true, &memory->store, err);
  if (rc == AIINFRA_OK) rc = aii_dense_refresh(memory, err);
  if (rc != AIINFRA_OK) {
    aii_memory_unref(memory);
    return rc;
  }
  *out = memory;
  return AIINFRA_OK;
}

void aii_memory_ref(aiinfra_memory *memory)
{
  atomic_fetch_add(&memory->refs, 1);
}

void aii_memory_unref(aiinfra_memory *memory)
{
  if (memory == NULL || atomic_fetch_sub(&memory->refs, 1) != 1) return;
  aiinfra_db *db = memory->db;
  aii_vecstore_free(memory->store);
  aii_vecstore_free(memory->past);
  aii_dense_free(memory, memory->dense);
  aii_strfree(&db->rt->mem, memory->name);
  aii_del(&db->rt->mem, memory, sizeof *memory);
  aii_db_unref(db);
}
