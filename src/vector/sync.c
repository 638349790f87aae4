/* sync.c - brings a collection's index up to its rows, whoever wrote them: this handle, another one, another process.
 *
 * The happy path: the collection's seq equals the index's -> nothing to do. Else, beside searches: rows with a higher seq are
 * placed behind the last slot, where nobody looks; if rows were removed since, slots whose id is gone are listed; so are rows
 * whose time has passed. Then the write lock is held while all of it is shown: a search sees all of a commit, or nothing.
 *
 * Who writes by this handle finds it in its own transaction, with `slots` held from then on, and shows it behind the commit, with
 * the connection's lock still held. A search by a vector alone asks for the seq over a connection for readers (aii_vecstore_look); while such a
 * writer is between its commit and the showing, it answers from what the index had before: nobody was told yet that the write
 * is done. Other searches read rows and index as one view (view.c).
 *
 * An index that is empty begins with the newest snapshot of it, if there is one (keep.c). When more than a fourth of a large
 * index is dead, the dead slots are taken out (heal.c).
 *
 * A failure in the middle leaves the index as it was: the next sync reads the rows once more. Thread: any, with the
 * connection's lock held, unless a function says otherwise.
 */
#include "lib/json/json.h"
#include "src/vector/named.h"
#include "src/vector/snapshot.h"
#include "src/vector/tenant.h"

enum { KEEP_DEAD = 1024, DEAD_PART = 4 }; /* dead slots go from an index this large when more than a fourth are */

/* What is to be shown. */
typedef struct kept {
  uint32_t slot, row, doc;
} kept;
typedef struct news {
  aiinfra_vecstore *store;
  int64_t seq;       /* of the collection then */
  uint32_t n_placed; /* slots behind the last one */
  float coarse;      /* the most that codes of one leave out */
  kept *kept;        /* rows whose vector is as it was */
  size_t n_kept, kept_cap;
  uint32_t *gone; /* slots of rows that were removed */
  size_t n_gone, gone_cap;
  aii_ids expired;
  aii_idmap map; /* a larger one, if one is needed */
  aii_buf doc;   /* of one payload */
} news;

static aiinfra_status no_memory(const aii_index *index, aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for an index of %u vectors", index->n);
}

/* ---- rows that came ------------------------------------------------------------------------------------------- */

static bool keeps_payloads(const aii_index *index)
{
  return index->docs.state == AII_DOCS_ON;
}

static bool pack(news *w, const json_t *payload)
{
  aii_index *index = &w->store->index;
  (void)pthread_mutex_lock(&index->keys);
  bool ok = aii_docs_pack(&index->docs, payload, &w->doc);
  (void)pthread_mutex_unlock(&index->keys);
  return ok;
}

static bool make_doc_room(news *w, uint32_t slot)
{
  aii_index *index = &w->store->index;
  if (aii_docs_has_room(&index->docs, slot, w->doc.len)) return true;
  (void)pthread_rwlock_wrlock(&index->lock);
  bool ok = aii_docs_room(&index->docs, slot, w->doc.len);
  (void)pthread_rwlock_unlock(&index->lock);
  return ok;
}

/* The document of a slot that is seen already waits to be shown. */
static aiinfra_status add_payload(news *w, aii_stmt *stmt, uint32_t slot, aiinfra_error *err)
{
  aii_index *index = &w->store->index;
  json_t *payload = NULL;
  size_t n;
  if (!keeps_payloads(index)) return AIINFRA_OK;
  const char *text = aii_stmt_get_text(stmt, 2, &n);
  aiinfra_status rc = n > 0 ? aii_json_parse(text, n, "payload", 0, &payload, err) : AIINFRA_OK;
  if (rc == AIINFRA_OK && (!pack(w, payload) || !make_doc_room(w, slot))) {
    rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for payloads");
  }
  json_decref(payload);
  if (rc != AIINFRA_OK || !keeps_payloads(index)) return rc;
  uint32_t at = aii_docs_place(&index->docs, slot, w->doc.data, w->doc.len);
  if (slot >= index->n) aii_docs_show(&index->docs, slot, at);
  else w->kept[w->n_kept - 1].doc = at; /* of the same row */
  return rc;
}

static bool make_room(aii_index *index, uint32_t slot)
{
  if (aii_index_has_room(index, slot)) return true;
  (void)pthread_rwlock_wrlock(&index->lock);
  bool ok = aii_index_room(index, slot);
  (void)pthread_rwlock_unlock(&index->lock);
  return ok;
}

/* *slot: where it is, or will be. */
static bool place(news *w, int64_t id, const void *vector, uint32_t row, uint32_t *slot)
{
  aii_index *index = &w->store->index;
  uint32_t next = index->n + w->n_placed;
  float coarse;
  if (!make_room(index, next) || !aii_index_place(index, next, id, vector, slot, &coarse)) return false;
  if (*slot == next) {
    aii_block_of(index, next)->rows[next % AII_BLOCK_SLOTS] = row;
    w->coarse = AII_MAX(w->coarse, coarse);
    w->n_placed++;
    return true;
  }
  if (!aii_grow(index->mem, &w->kept, &w->kept_cap, w->n_kept + 1, sizeof *w->kept)) return false;
  w->kept[w->n_kept++] = (kept){*slot, row, UINT32_MAX};
  return true;
}

static aiinfra_status add_row(news *w, aii_stmt *stmt, aiinfra_error *err)
{
  aiinfra_vecstore *store = w->store;
  size_t n;
  uint32_t slot;
  int64_t id = aii_stmt_get_int(stmt, 0), row = aii_stmt_get_int(stmt, 3);
  const void *vector = aii_stmt_get_blob(stmt, 1, &n);
  size_t want = aii_element_bytes(store->index.element, store->index.dims);
  if (vector == NULL || n != want) {
    return aii_fail(err, AIINFRA_EFORMAT,
                    "the vector of row %lld has %zu bytes instead of %zu; the database is damaged: restore it from a "
                    "backup",
                    (long long)id, n, want);
  }
  if (!place(w, id, vector, row <= UINT32_MAX ? (uint32_t)row : 0, &slot)) return no_memory(&store->index, err);
  if (!aii_expiry_note(&store->expiry, id, aii_stmt_get_int(stmt, 4))) {
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for the times of rows");
  }
  return add_payload(w, stmt, slot, err);
}

static aiinfra_status add_new(news *w, aiinfra_error *err)
{
  aiinfra_vecstore *store = w->store;
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(
      store->db->sql,
      "SELECT r.id, v.vector, CASE WHEN ?3 THEN r.payload END, r.row, r.expires_ms FROM rows r "
      "LEFT JOIN vectors v ON v.row = r.row WHERE r.collection = ?1 AND r.seq > ?2 ORDER BY r.seq, r.id",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  aii_stmt_int(stmt, 2, store->index.seq);
  aii_stmt_int(stmt, 3, keeps_payloads(&store->index));
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc == AIINFRA_OK && row) rc = add_row(w, stmt, err);
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* ---- rows that went ------------------------------------------------------------------------------------------- */

aiinfra_status aii_rows_there(aiinfra_vecstore *store, const aii_idmap *map, uint64_t *there, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(store->db->sql, "SELECT id FROM rows WHERE collection = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    uint32_t slot = aii_idmap_get(map, aii_stmt_get_int(stmt, 0));
    if (slot != AII_NO_SLOT) there[slot / 64] |= (uint64_t)1 << slot % 64;
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status find_removed(news *w, aiinfra_error *err)
{
  aii_index *index = &w->store->index;
  size_t n_words = (size_t)index->n / 64 + 1;
  uint64_t *there = aii_new_array(index->mem, n_words, sizeof *there);
  if (there == NULL) return no_memory(index, err);
  aiinfra_status rc = aii_rows_there(w->store, &index->map, there, err);
  for (uint32_t slot = 0; rc == AIINFRA_OK && slot < index->n; slot++) {
    if (aii_bit(there, slot) || aii_is_dead(index, slot)) continue;
    if (!aii_grow(index->mem, &w->gone, &w->gone_cap, w->n_gone + 1, sizeof *w->gone)) rc = no_memory(index, err);
    else w->gone[w->n_gone++] = slot;
  }
  aii_del(index->mem, there, n_words * sizeof *there);
  return rc;
}

/* Without memory, or while the graph is being built, dead slots stay until the next time. */
void aii_vecstore_heal(aiinfra_vecstore *store)
{
  aii_index *index = &store->index;
  if (store->kind != AII_KIND_ONE) return;
  (void)pthread_rwlock_rdlock(&index->lock);
  bool due = index->n > KEEP_DEAD && index->n_dead > index->n / DEAD_PART;
  (void)pthread_rwlock_unlock(&index->lock);
  if (due) (void)aii_hnsw_heal(index);
}

aiinfra_status aii_collection_seqs(const aiinfra_vecstore *store, aii_sql *sql, aii_seqs *out, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  int64_t collection = store->collection;
  *out = (aii_seqs){0};
  aiinfra_status rc =
      aii_sql_prepare(sql, "SELECT seq, removed_seq, purged_seq FROM collections WHERE id = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, collection);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) {
    *out = (aii_seqs){aii_stmt_get_int(stmt, 0), aii_stmt_get_int(stmt, 1), aii_stmt_get_int(stmt, 2)};
  }
  if (rc == AIINFRA_OK && !row && collection != 0) {
    rc = aii_fail(err, AIINFRA_ENOENT, "the collection is gone; open it again");
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* ---- all of it -------------------------------------------------------------------------------------------------- */

/* With `slots` held, until news_end(). */
static aiinfra_status news_find(news *w, aiinfra_vecstore *store, const aii_seqs *now, aiinfra_error *err)
{
  aii_index *index = &store->index;
  bool filled = false;
  *w = (news){.store = store, .seq = now->seq};
  aii_idmap_init(&w->map, index->mem);
  aii_buf_init(&w->doc, index->mem, 0);
  aiinfra_status rc = AIINFRA_OK;
  if (index->seq != now->seq || !store->expiry.filled) {
    rc = aii_expiry_prepare(store, &filled, err);
    bool removed = index->seq < 0 || AII_MAX(now->removed_seq, now->purged_seq) > index->seq;
    removed = index->n > 0 && (removed || (filled && now->purged_seq > 0));
    if (rc == AIINFRA_OK) rc = add_new(w, err);
    if (rc == AIINFRA_OK && removed) rc = find_removed(w, err);
  }
  if (rc == AIINFRA_OK) rc = aii_expiry_pass(store, &w->expired, err);
  if (rc == AIINFRA_OK && !aii_idmap_grow(&index->map, index->map.n + w->n_placed, &w->map)) rc = no_memory(index, err);
  return rc;
}

/* From here on nothing can fail. Write lock held. */
static void show(news *w)
{
  aii_index *index = &w->store->index;
  if (w->map.cap > 0) {
    aii_idmap old = index->map;
    index->map = w->map;
    w->map = old;
  }
  for (size_t i = 0; i < w->n_gone; i++) aii_index_kill(index, w->gone[i]);
  for (uint32_t i = 0; i < w->n_placed; i++) aii_index_show(index, w->coarse);
  for (size_t i = 0; i < w->n_kept; i++) {
    aii_block_of(index, w->kept[i].slot)->rows[w->kept[i].slot % AII_BLOCK_SLOTS] = w->kept[i].row;
    if (keeps_payloads(index)) aii_docs_show(&index->docs, w->kept[i].slot, w->kept[i].doc);
  }
  for (size_t i = 0; i < w->expired.n; i++) {
    uint32_t slot = aii_idmap_get(&index->map, w->expired.items[i]);
    if (slot != AII_NO_SLOT) aii_index_kill(index, slot);
  }
  index->changes += w->n_kept;
  index->seq = w->seq;
}

/* It is not to be shown: what was to be looked for is to be looked for again. */
static void forget(news *w)
{
  aii_index *index = &w->store->index;
  for (size_t i = 0; keeps_payloads(index) && i < w->n_kept; i++) {
    aii_docs_drop(&index->docs, w->kept[i].slot, w->kept[i].doc);
  }
  w->store->expiry.filled = false;
}

/* shown: else it is forgotten. */
static void news_end(news *w, bool shown)
{
  aii_index *index = &w->store->index;
  if (shown) {
    (void)pthread_rwlock_wrlock(&index->lock);
    show(w);
    (void)pthread_rwlock_unlock(&index->lock);
    if (w->n_kept > 0) aii_index_tidy(index);
  } else {
    forget(w);
  }
  aii_expiry_tell(w->store);
  aii_buf_free(&w->doc);
  aii_idmap_free(&w->map);
  aii_del(index->mem, w->kept, w->kept_cap * sizeof *w->kept);
  aii_del(index->mem, w->gone, w->gone_cap * sizeof *w->gone);
  aii_del(index->mem, w->expired.items, w->expired.cap * sizeof *w->expired.items);
}

static aiinfra_status catch_up(aiinfra_vecstore *store, const aii_seqs *now, aiinfra_error *err)
{
  aii_index *index = &store->index;
  news w;
  if (index->seq < 0) {
    (void)pthread_rwlock_wrlock(&index->lock);
    aii_keep_load(store, now->seq);
    (void)pthread_rwlock_unlock(&index->lock);
  }
  aiinfra_status rc = news_find(&w, store, now, err);
  news_end(&w, rc == AIINFRA_OK);
  return rc;
}

/* held: `slots` is. */
static aiinfra_status follow(aiinfra_vecstore *store, bool held, aiinfra_error *err)
{
  aii_index *index = &store->index;
  aii_seqs now;
  if (store->multi != NULL) return aii_multi_sync(store, err);
  if (store->sparse != NULL) return aii_sparse_sync(store, err);
  aiinfra_status rc = aii_collection_seqs(store, store->db->sql, &now, err);
  /* index->seq changes only with the connection's lock held, so it may be read without the index's */
  if (rc != AIINFRA_OK || (index->seq == now.seq && store->expiry.filled && !aii_expiry_due(store))) return rc;
  if (!held) (void)pthread_mutex_lock(&index->slots);
  rc = catch_up(store, &now, err);
  if (!held) (void)pthread_mutex_unlock(&index->slots);
  return rc;
}

aiinfra_status aii_vecstore_sync(aiinfra_vecstore *store, aiinfra_error *err)
{
  aiinfra_status rc = aii_tenant_find(store, err);
  return rc == AIINFRA_OK && store->collection != 0 ? follow(store, false, err) : rc;
}

/* ---- for searches ----------------------------------------------------------------------------------------------- */

/* The index has all that was committed before this call, except what is being brought in. What is wrong is told by the sync
 * that follows. The seq of the database is asked for first: what is coming is there when it is none any more. */
static bool is_fresh(aiinfra_vecstore *store, aii_sql *sql)
{
  aii_index *index = &store->index;
  aii_seqs now;
  if (!aii_tenant_is_same(store, sql)) return false;
  if (store->collection == 0) return true;
  if (aii_collection_seqs(store, sql, &now, NULL) != AIINFRA_OK) return false;
  int64_t coming = atomic_load(&store->coming);
  (void)pthread_rwlock_rdlock(&index->lock);
  int64_t seq = index->seq;
  (void)pthread_rwlock_unlock(&index->lock);
  if (seq < 0 || (now.seq > seq && now.seq != coming)) return false;
  return store->kind != AII_KIND_ONE || !aii_expiry_is_due(store);
}

aiinfra_status aii_vecstore_look(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_sql *sql = aii_db_take_reader(store->db);
  bool fresh = sql != NULL && is_fresh(store, sql);
  if (sql != NULL) aii_db_give_reader(store->db, sql);
  if (fresh) return AIINFRA_OK;
  aii_sql_lock(store->db->sql);
  aiinfra_status rc = aii_sql_begin_read(store->db->sql, err); /* counts and rows of one commit, whoever writes */
  if (rc == AIINFRA_OK) {
    rc = aii_vecstore_sync(store, err);
    aii_sql_rollback(store->db->sql); /* nothing was written */
  }
  aii_sql_unlock(store->db->sql);
  return rc;
}

/* ---- for writers ------------------------------------------------------------------------------------------------ */

/* The collection, then those below it. Those that nobody has searched yet are left alone. NULL: it is such a one. */
static aiinfra_vecstore *searched(aiinfra_vecstore *store, size_t at)
{
  aiinfra_vecstore *one = at == 0 ? store : store->named[at - 1];
  return one->index.seq >= 0 ? one : NULL; /* changes with the connection's lock held */
}

/* After a removal of ids by this handle, whose index was up to date: no need to compare all ids. */
static bool kill_slots(aiinfra_vecstore *store, const aii_ids *removed)
{
  aii_index *index = &store->index;
  int64_t seq = atomic_load(&store->coming);
  if (index->seq != seq - 1) return false;
  (void)pthread_rwlock_wrlock(&index->lock);
  for (size_t i = 0; i < removed->n; i++) {
    uint32_t slot = aii_idmap_get(&index->map, removed->items[i]);
    if (slot != AII_NO_SLOT) aii_index_kill(index, slot);
  }
  index->seq = seq;
  (void)pthread_rwlock_unlock(&index->lock);
  return true;
}

/* What fails here, the next search does. */
static void bring_in(aiinfra_vecstore *store, const aii_ids *removed)
{
  if (removed == NULL || !kill_slots(store, removed)) (void)follow(store, true, NULL);
}

/* The seqs of what is written. */
static aiinfra_status announce(aiinfra_vecstore *store, aiinfra_error *err)
{
  int64_t seq = 0;
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i <= store->n_named; i++) {
    aiinfra_vecstore *one = searched(store, i);
    if (one != NULL) rc = aii_rows_seq(one, store->db->sql, &seq, err);
    if (one != NULL && rc == AIINFRA_OK) atomic_store(&one->coming, seq);
  }
  return rc;
}

/* What is new in the collection itself, so that it can be shown as soon as it is committed. It may fail, unless the transaction
 * is lost by that. *found: w is to be ended. */
static aiinfra_status find_news(aiinfra_vecstore *store, news *w, bool *found, aiinfra_error *err)
{
  aii_seqs now;
  aiinfra_status rc = aii_collection_seqs(store, store->db->sql, &now, err);
  if (rc == AIINFRA_OK) {
    rc = news_find(w, store, &now, err);
    *found = rc == AIINFRA_OK;
    if (rc != AIINFRA_OK) news_end(w, false);
  }
  return aii_sql_is_inside(store->db->sql) ? AIINFRA_OK : rc;
}

aiinfra_status aii_vecstore_commit(aiinfra_vecstore *store, const aii_ids *removed, aiinfra_error *err)
{
  aii_sql *sql = store->db->sql;
  aiinfra_vecstore *one;
  news w;
  bool found = false;
  aiinfra_status rc = announce(store, err);
  for (size_t i = 0; i <= store->n_named; i++) {
    if ((one = searched(store, i)) != NULL) (void)pthread_mutex_lock(&one->index.slots);
  }
  if (rc == AIINFRA_OK && removed == NULL && searched(store, 0) != NULL) rc = find_news(store, &w, &found, err);
  if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
  else aii_sql_rollback(sql);
  if (found) news_end(&w, rc == AIINFRA_OK);
  for (size_t i = 0; i <= store->n_named; i++) {
    if ((one = searched(store, i)) == NULL) continue;
    if (rc == AIINFRA_OK && (i > 0 || !found)) bring_in(one, i == 0 ? removed : NULL);
    atomic_store(&one->coming, -1);
    (void)pthread_mutex_unlock(&one->index.slots);
  }
  return rc;
}
