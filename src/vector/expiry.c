/* expiry.c - rows that live until a time: when they die in the index, and how they are removed for good.
 *
 * Rows are the truth here too: `expires_ms` of a row is when it ceases to be there, NULL is never. Queries of the rows leave
 * expired ones out by their time. The index has a heap of the times of its rows: whoever brings it up to date first lets
 * the slots die whose time has passed, so that searches, masks and counts see living rows alone. An entry may be out of
 * date, as the row may have been written since: it is checked with the row before a slot dies.
 *
 * Removal is src/db/expire.c: a little with each write, all of it on request. Thread: any, with the connection's lock held.
 */
#include "src/vector/vector.h"

enum { WRITE_PURGES = 16, REQUEST_PURGES = 1 << 30, KEEP_ENTRIES = 1024 };

typedef struct entry {
  int64_t expires_ms, id;
} entry;

static bool is_before(const void *a, const void *b)
{
  return ((const entry *)a)->expires_ms < ((const entry *)b)->expires_ms;
}

void aii_expiry_init(aii_expiry *expiry, aii_mem *mem)
{
  aii_heap_init(&expiry->heap, mem, sizeof(entry), is_before);
  expiry->filled = false;
  expiry->due_ms = INT64_MIN;
  expiry->now_ms = aii_unix_ms;
}

void aii_expiry_free(aii_expiry *expiry)
{
  aii_heap_free(&expiry->heap);
  expiry->filled = false;
}

bool aii_expiry_note(aii_expiry *expiry, int64_t id, int64_t expires_ms)
{
  entry e = {expires_ms, id};
  return expires_ms == 0 || aii_heap_push(&expiry->heap, &e);
}

/* By the index of times, which is small, not by that of seq. Rows that came with the snapshot, or all of them once more when most entries are out of date. */
static aiinfra_status fill(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  store->expiry.heap.n = 0;
  aiinfra_status rc = aii_sql_prepare(
      store->db->sql, "SELECT id, expires_ms FROM rows WHERE collection = ?1 AND expires_ms > 0 AND +seq <= ?2", &stmt,
      err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  aii_stmt_int(stmt, 2, store->index.seq);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc == AIINFRA_OK && row &&
        !aii_expiry_note(&store->expiry, aii_stmt_get_int(stmt, 0), aii_stmt_get_int(stmt, 1)))
      rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for the times of rows");
  }
  aii_stmt_reset(stmt);
  store->expiry.filled = rc == AIINFRA_OK;
  return rc;
}

aiinfra_status aii_expiry_prepare(aiinfra_vecstore *store, bool *filled, aiinfra_error *err)
{
  const aii_index *index = &store->index;
  size_t most = 2 * (size_t)(index->n - index->n_dead) + KEEP_ENTRIES;
  *filled = !store->expiry.filled || store->expiry.heap.n > most;
  return *filled ? fill(store, err) : AIINFRA_OK;
}

/* Whether the row is gone, or should be. */
static aiinfra_status has_expired(aiinfra_vecstore *store, int64_t id, int64_t now_ms, bool *expired,
                                  aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(
      store->db->sql,
      "SELECT 1 FROM rows WHERE collection = ?1 AND id = ?2 AND (expires_ms IS NULL OR expires_ms > ?3)", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  aii_stmt_int(stmt, 2, id);
  aii_stmt_int(stmt, 3, now_ms);
  rc = aii_stmt_step(stmt, &row, err);
  *expired = rc == AIINFRA_OK && !row;
  aii_stmt_reset(stmt);
  return rc;
}

bool aii_expiry_due(const aiinfra_vecstore *store)
{
  const aii_heap *heap = &store->expiry.heap;
  return heap->n > 0 && ((const entry *)(const void *)heap->items)->expires_ms <= store->expiry.now_ms();
}

bool aii_expiry_is_due(const aiinfra_vecstore *store)
{
  return atomic_load(&store->expiry.due_ms) <= store->expiry.now_ms();
}

void aii_expiry_tell(aiinfra_vecstore *store)
{
  const aii_heap *heap = &store->expiry.heap;
  int64_t due_ms = heap->n > 0 ? ((const entry *)(const void *)heap->items)->expires_ms : INT64_MAX;
  atomic_store(&store->expiry.due_ms, store->expiry.filled ? due_ms : INT64_MIN);
}

aiinfra_status aii_expiry_pass(aiinfra_vecstore *store, aii_ids *expired, aiinfra_error *err)
{
  int64_t now_ms = store->expiry.now_ms();
  while (aii_expiry_due(store)) {
    entry e;
    bool gone;
    memcpy(&e, store->expiry.heap.items, sizeof e);
    aiinfra_status rc = has_expired(store, e.id, now_ms, &gone, err);
    if (rc == AIINFRA_OK && !aii_grow(store->index.mem, &expired->items, &expired->cap, expired->n + 1, sizeof e.id)) {
      rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for the times of rows");
    }
    if (rc != AIINFRA_OK) return rc;
    if (gone) expired->items[expired->n++] = e.id;
    (void)aii_heap_pop(&store->expiry.heap, &e);
  }
  return AIINFRA_OK;
}

int64_t aii_expiry_of(const aiinfra_vecstore *store, int64_t given_ms)
{
  int64_t now_ms = store->expiry.now_ms();
  if (given_ms != 0 || store->ttl_ms == 0) return given_ms;
  return store->ttl_ms < INT64_MAX - now_ms ? now_ms + store->ttl_ms : INT64_MAX;
}

aiinfra_status aii_expiry_purge_some(aiinfra_vecstore *store, size_t n_written, aiinfra_error *err)
{
  uint64_t n;
  return aii_db_purge(store->db->sql, store->collection, store->expiry.now_ms(), (uint64_t)n_written + WRITE_PURGES, &n,
                      err);
}

aiinfra_status aii_expiry_purge_all(aiinfra_vecstore *store, size_t *n, aiinfra_error *err)
{
  uint64_t removed;
  aiinfra_status rc =
      aii_db_purge(store->db->sql, store->collection, store->expiry.now_ms(), REQUEST_PURGES, &removed, err);
  *n = rc == AIINFRA_OK ? (size_t)removed : 0;
  return rc;
}
