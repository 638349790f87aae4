/* memory.c - opening the memory of a scope: its row, and the collection that holds its texts. Any thread. */
#include "src/memory/memory.h"

/* Names the way texts are embedded: vectors made in another way must never be compared with these. */
#define COLLECTION "@memory/hash1/"

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
  rc = aii_stmt_run(stmt, err);
  return rc == AIINFRA_OK ? find_scope(memory, scope, err) : rc;
}

static aiinfra_status open_store(aiinfra_memory *memory, const char *scope, aiinfra_error *err)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aii_buf name;
  opts.dims = AII_EMBED_DIMS;
  opts.metric = AIINFRA_METRIC_COSINE;
  aii_buf_init(&name, &memory->db->rt->mem, 0);
  aii_buf_fmt(&name, COLLECTION "%s", scope);
  aiinfra_status rc = name.failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a scope") : AIINFRA_OK;
  if (rc == AIINFRA_OK) rc = aii_vecstore_open(memory->db, aii_buf_cstr(&name), &opts, &memory->store, err);
  aii_buf_free(&name);
  return rc;
}

aiinfra_status aii_memory_open(aiinfra_db *db, const char *scope, aiinfra_memory **out, aiinfra_error *err)
{
  *out = NULL;
  aiinfra_memory *memory = aii_new(&db->rt->mem, sizeof *memory);
  if (memory == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a memory");
  atomic_store(&memory->refs, 1);
  memory->db = db;
  aii_db_ref(db);
  aii_sql_lock(db->sql);
  aiinfra_status rc = find_scope(memory, scope, err);
  if (rc == AIINFRA_OK && memory->scope == 0) rc = create_scope(memory, scope, err);
  aii_sql_unlock(db->sql);
  if (rc == AIINFRA_OK) rc = open_store(memory, scope, err);
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
  aii_del(&db->rt->mem, memory, sizeof *memory);
  aii_db_unref(db);
}
