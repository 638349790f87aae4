/* mask.c - which slots pass a filter: the exact bitmap that a plan is chosen by.
 *
 * The happy path: the payloads of all rows are in memory (docs.c; the first filter reads them) -> every live slot's
 * document is tested -> the bitmap is kept with the filter's text. The next query with this filter tests only slots
 * that came since; dead ones are taken out in any case. A changed payload of an old slot makes all kept masks void.
 *
 * Where payloads take more memory than the limit, rows are read and packed one by one instead: slow, but the same
 * answer. What can fail: memory, the database, and a filter that takes more steps than anybody should wait for.
 * Thread: any, with the lock of the connection held that reads rows, and the index locked for reading, unless a function says
 * otherwise. What is kept has a lock of its own.
 */
#include "lib/json/json.h"
#include "src/vector/doc.h"

enum { MAX_KEPT_TEXT = 64 << 10 }; /* bytes of a filter whose mask is kept */
/* Steps that a filter may take: seconds of work. A condition on a small payload takes some ten. */
#define STEPS_AT_LEAST ((uint64_t)1 << 31)
#define STEPS_PER_ROW 256u

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a filter");
}

static aiinfra_status too_long(aiinfra_error *err)
{
  return aii_fail(
      err, AIINFRA_ELIMIT,
      "the filter takes too many steps on this collection; use fewer conditions (one match with any instead "
      "of many)");
}

/* ---- payloads -------------------------------------------------------------------------------------------------- */

aiinfra_status aii_rows_each(const aiinfra_vecstore *store, aii_sql *sql, aii_row_fn see, void *ctx, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc =
      aii_sql_prepare(sql, "SELECT id, payload FROM rows WHERE collection = ?1 ORDER BY seq, id", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  while (rc == AIINFRA_OK && row) {
    json_t *payload = NULL;
    size_t n;
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    int64_t id = aii_stmt_get_int(stmt, 0);
    const char *text = aii_stmt_get_text(stmt, 1, &n);
    if (n > 0) rc = aii_json_parse(text, n, "payload", 0, &payload, err);
    if (rc == AIINFRA_OK) rc = see(ctx, id, payload, err);
    if (rc != AIINFRA_OK) (void)aii_wrap(err, rc, "row %lld", (long long)id);
    json_decref(payload);
  }
  aii_stmt_reset(stmt);
  return rc;
}

typedef struct loading {
  const aii_index *index;
  aii_docs docs;
  aii_buf doc;
} loading;

static aiinfra_status load_row(void *ctx, int64_t id, const json_t *payload, aiinfra_error *err)
{
  loading *l = ctx;
  uint32_t slot = aii_idmap_get(&l->index->map, id);
  if (slot == AII_NO_SLOT || l->docs.state == AII_DOCS_OVER) return AIINFRA_OK;
  if (!aii_docs_pack(&l->docs, payload, &l->doc) || !aii_docs_room(&l->docs, slot, l->doc.len)) return no_memory(err);
  if (l->docs.state == AII_DOCS_OVER) return AIINFRA_OK;
  aii_docs_show(&l->docs, slot, aii_docs_place(&l->docs, slot, l->doc.data, l->doc.len));
  return AIINFRA_OK;
}

/* Beside searches, which see all of them at once. */
static aiinfra_status load(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_index *index = &store->index;
  loading l = {.index = index};
  aii_docs_init(&l.docs, index->mem, index->docs.limit_bytes);
  aii_buf_init(&l.doc, index->mem, 0);
  aiinfra_status rc = aii_rows_each(store, store->db->sql, load_row, &l, err);
  if (rc == AIINFRA_OK) {
    if (l.docs.state == AII_DOCS_OFF) l.docs.state = AII_DOCS_ON;
    (void)pthread_rwlock_wrlock(&index->lock);
    index->docs = l.docs; /* there were none */
    (void)pthread_rwlock_unlock(&index->lock);
  } else {
    aii_docs_clear(&l.docs);
  }
  aii_buf_free(&l.doc);
  return rc;
}

aiinfra_status aii_docs_load(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_index *index = &store->index;
  (void)pthread_mutex_lock(&index->slots); /* they must not move */
  aiinfra_status rc = index->docs.state == AII_DOCS_OFF ? load(store, err) : AIINFRA_OK;
  (void)pthread_mutex_unlock(&index->slots);
  return rc;
}

/* ---- kept masks ------------------------------------------------------------------------------------------------ */

static void drop(aii_mem *mem, aii_kept_mask *kept)
{
  aii_strfree(mem, kept->filter);
  aii_del(mem, kept->bits, kept->n_words * sizeof *kept->bits);
  memset(kept, 0, sizeof *kept);
}

void aii_masks_clear(aiinfra_vecstore *store)
{
  (void)pthread_mutex_lock(&store->kept_lock);
  for (size_t i = 0; i < AII_KEPT_MASKS; i++) drop(&store->db->rt->mem, &store->kept[i]);
  (void)pthread_mutex_unlock(&store->kept_lock);
}

/* The kept mask of this filter, or the place for one. */
static aii_kept_mask *find_kept(aiinfra_vecstore *store, const char *text)
{
  aii_kept_mask *oldest = &store->kept[0];
  for (size_t i = 0; i < AII_KEPT_MASKS; i++) {
    aii_kept_mask *kept = &store->kept[i];
    if (kept->filter != NULL && strcmp(kept->filter, text) == 0) return kept;
    if (kept->used < oldest->used) oldest = kept;
  }
  return oldest;
}

static bool is_known(const aiinfra_vecstore *store, const aii_kept_mask *kept, const char *text)
{
  if (kept->filter == NULL || strcmp(kept->filter, text) != 0 || kept->changes != store->index.changes) return false;
  return store->index.docs.state == AII_DOCS_ON || kept->n == store->index.n; /* rows come in no order of slots */
}

/* Copies what is known already; from there on slots are to be tested. */
static uint32_t known(aiinfra_vecstore *store, const char *text, aii_mask *mask)
{
  (void)pthread_mutex_lock(&store->kept_lock);
  const aii_kept_mask *kept = find_kept(store, text);
  uint32_t n = 0;
  mask->kept = is_known(store, kept, text);
  if (mask->kept) memcpy(mask->bits, kept->bits, AII_MIN(kept->n_words, mask->n_words) * sizeof *mask->bits);
  if (mask->kept) n = kept->n;
  (void)pthread_mutex_unlock(&store->kept_lock);
  return n;
}

/* Memory that is out now costs the next query time, no more. */
static void keep(aiinfra_vecstore *store, const char *text, const aii_mask *mask)
{
  aii_mem *mem = &store->db->rt->mem;
  aii_kept_mask next = {.n_words = mask->n_words, .n = store->index.n};
  if (strlen(text) > MAX_KEPT_TEXT) return;
  next.filter = aii_strdup(mem, text);
  next.bits = aii_new_array(mem, mask->n_words, sizeof *next.bits);
  next.changes = store->index.changes;
  if (next.filter == NULL || next.bits == NULL) {
    drop(mem, &next);
    return;
  }
  memcpy(next.bits, mask->bits, mask->n_words * sizeof *next.bits);
  (void)pthread_mutex_lock(&store->kept_lock);
  aii_kept_mask *kept = find_kept(store, text);
  next.used = ++store->kept_clock;
  drop(mem, kept);
  *kept = next;
  (void)pthread_mutex_unlock(&store->kept_lock);
}

/* ---- testing --------------------------------------------------------------------------------------------------- */

typedef struct tester {
  aii_index *index;
  const aii_filter *filter;
  aii_mask *mask;
  aii_keys keys; /* of the filter alone, where rows are read */
  aii_buf doc;
  uint64_t steps;
} tester;

static void set_bit(aii_mask *mask, uint32_t slot)
{
  mask->bits[slot / 64] |= (uint64_t)1 << slot % 64;
}

static aiinfra_status test_slots(tester *t, uint32_t from, aiinfra_error *err)
{
  aii_index *index = t->index;
  for (uint32_t slot = from; slot < index->n; slot++) {
    if (aii_is_dead(index, slot)) continue;
    int64_t id = aii_block_of(index, slot)->ids[slot % AII_BLOCK_SLOTS];
    if (aii_filter_passes(t->filter, id, aii_docs_get(&index->docs, slot), &t->steps)) set_bit(t->mask, slot);
    if (t->steps == 0) return too_long(err);
  }
  return AIINFRA_OK;
}

static aiinfra_status test_row(void *ctx, int64_t id, const json_t *payload, aiinfra_error *err)
{
  tester *t = ctx;
  uint32_t slot = aii_idmap_get(&t->index->map, id);
  if (slot == AII_NO_SLOT) return AIINFRA_OK;
  aii_buf_clear(&t->doc);
  if (!aii_doc_pack(&t->keys, false, payload, &t->doc)) return no_memory(err);
  if (aii_filter_passes(t->filter, id, (const aii_cell *)(void *)t->doc.data, &t->steps)) set_bit(t->mask, slot);
  return t->steps > 0 ? AIINFRA_OK : too_long(err);
}

static aiinfra_status test_all(aiinfra_vecstore *store, aii_sql *sql, aii_filter *filter, uint32_t from, aii_mask *mask,
                               aiinfra_error *err)
{
  tester t = {.index = &store->index, .filter = filter, .mask = mask};
  aiinfra_status rc;
  t.steps = STEPS_AT_LEAST + (uint64_t)STEPS_PER_ROW * store->index.n;
  if (store->index.docs.state == AII_DOCS_ON) {
    aii_docs_bind(&store->index, filter);
    rc = test_slots(&t, from, err);
  } else {
    aii_keys_init(&t.keys, store->index.mem);
    aii_buf_init(&t.doc, store->index.mem, 0);
    rc = aii_filter_bind(filter, &t.keys, true) ? aii_rows_each(store, sql, test_row, &t, err) : no_memory(err);
    aii_buf_free(&t.doc);
    aii_keys_free(&t.keys);
  }
  mask->n_tested = store->index.n - from;
  return rc;
}

static void take_out_dead(const aii_index *index, aii_mask *mask)
{
  mask->n_passing = 0;
  for (size_t w = 0; w < mask->n_words; w++) {
    uint64_t left = mask->bits[w];
    for (uint64_t bits = index->n_dead > 0 ? left : 0; bits != 0; bits &= bits - 1) {
      uint32_t slot = (uint32_t)(w * 64 + (size_t)__builtin_ctzll(bits));
      if (aii_is_dead(index, slot)) left &= ~((uint64_t)1 << slot % 64);
    }
    mask->bits[w] = left;
    mask->n_passing += (uint32_t)__builtin_popcountll(left);
  }
}

aiinfra_status aii_mask_make(aiinfra_vecstore *store, aii_sql *sql, aii_filter *filter, const char *text,
                             aii_mask *mask, aiinfra_error *err)
{
  aii_index *index = &store->index;
  memset(mask, 0, sizeof *mask);
  mask->n_words = (size_t)index->n / 64 + 1;
  mask->bits = aii_new_array(index->mem, mask->n_words, sizeof *mask->bits);
  if (mask->bits == NULL) return no_memory(err);
  uint32_t from = known(store, text, mask);
  aiinfra_status rc = from == index->n && mask->kept ? AIINFRA_OK : test_all(store, sql, filter, from, mask, err);
  if (rc != AIINFRA_OK) {
    aii_mask_free(store, mask);
    return rc;
  }
  if (mask->n_tested > 0) keep(store, text, mask);
  take_out_dead(index, mask);
  return AIINFRA_OK;
}

aiinfra_status aii_mask_alive(const aii_index *index, aii_mask *mask, aiinfra_error *err)
{
  if (mask->bits != NULL) return AIINFRA_OK;
  mask->n_words = (size_t)index->n / 64 + 1;
  mask->bits = aii_new_array(index->mem, mask->n_words, sizeof *mask->bits);
  if (mask->bits == NULL) return no_memory(err);
  for (uint32_t slot = 0; slot < index->n; slot++) {
    if (!aii_is_dead(index, slot)) set_bit(mask, slot);
  }
  return AIINFRA_OK;
}

void aii_mask_free(aiinfra_vecstore *store, aii_mask *mask)
{
  aii_del(store->index.mem, mask->bits, mask->n_words * sizeof *mask->bits);
  memset(mask, 0, sizeof *mask);
}
