/* ranks.c - one model in several processes: what rank 0 tells the others to do.
 *
 * Rank 0 is used like any model. Before it does what the others must do too (make or free a cache, copy a block, run rows)
 * it tells them so, in one order of a few numbers and perhaps a list. The others stand in aii_ranks_follow() and do the
 * same with their parts. Memory is made by orders that every rank answers, so that a pass cannot fail on one rank alone.
 *
 * All of it happens under the device's lock.
 */
#include "src/model/forward.h"

typedef enum what { END, WORKSPACE, CACHE, CACHE_FREE, COPY_BLOCK, FORWARD } what;

typedef struct order {
  uint32_t what;
  uint32_t a[6];
  uint32_t n_words; /* of the list behind it */
} order;

static aii_comm *comm_of(const aiinfra_model *m)
{
  return m->rt->comm;
}

static bool leads(const aiinfra_model *m)
{
  return aii_is_split(m) && comm_of(m)->rank == 0;
}

static aiinfra_status tell(aiinfra_model *m, order o, uint32_t *words, aiinfra_error *err)
{
  aii_comm *comm = comm_of(m);
  aiinfra_status rc = comm->ops->tell(comm, &o, sizeof o, err);
  if (rc == AIINFRA_OK && o.n_words > 0) rc = comm->ops->tell(comm, words, o.n_words * sizeof *words, err);
  return rc;
}

/* ---- rank 0 ------------------------------------------------------------------------------------------------------- */

/* What must be the same everywhere. */
static uint64_t fingerprint(const aiinfra_model *m)
{
  const uint64_t numbers[] = {m->n_params,    m->weight_bytes, m->hp.n_vocab,
                              m->hp.n_layers, m->max_context,  (uint64_t)m->tok_embd.type};
  return aii_hash64(numbers, sizeof numbers, 0);
}

aiinfra_status aii_ranks_meet(aiinfra_runtime *rt, aiinfra_model *m, aiinfra_status mine, aiinfra_error *err)
{
  if (!aii_has_ranks(rt)) return mine;
  uint64_t own = mine == AIINFRA_OK ? fingerprint(m) : 0, first = own;
  aiinfra_error why;
  aiinfra_status rc = rt->comm->ops->tell(rt->comm, &first, sizeof first, &why);
  if (rc != AIINFRA_OK) return aii_fail(err, rc, "%s", why.message);
  if (mine == AIINFRA_OK && first != own && first != 0)
    mine = aii_fail(err, AIINFRA_EINVAL, "rank %u opened another model than rank 0, or with other options",
                    rt->comm->rank);
  mine = aii_comm_agree(rt->comm, mine, err);
  if (mine == AIINFRA_OK) m->met = true;
  return mine;
}

aiinfra_status aii_ranks_workspace(aiinfra_model *m, uint32_t max_rows, uint32_t max_logits, aiinfra_error *err)
{
  if (!leads(m)) return AIINFRA_OK;
  aii_device_lock(m->rt);
  aiinfra_status rc = tell(m, (order){.what = WORKSPACE, .a = {max_rows, max_logits}}, NULL, err);
  if (rc == AIINFRA_OK) rc = aii_comm_agree(comm_of(m), rc, err);
  aii_device_unlock(m->rt);
  return rc;
}

aiinfra_status aii_ranks_cache(aiinfra_model *m, aii_kv_view *kv, aiinfra_error *err)
{
  if (aii_is_split(m) && !leads(m))
    return aii_fail(err, AIINFRA_EINVAL, "rank %u does as rank 0 says: call aiinfra_model_follow()", comm_of(m)->rank);
  if (!leads(m)) return AIINFRA_OK;
  uint32_t id = 0;
  while (id < AII_MAX_CACHES && (m->cache_ids >> id & 1) != 0) id++;
  if (id == AII_MAX_CACHES) return aii_fail(err, AIINFRA_ELIMIT, "a split model has %d caches at most", AII_MAX_CACHES);
  aii_device_lock(m->rt);
  order o = {.what = CACHE, .a = {id, (uint32_t)kv->type, kv->block_tokens, kv->n_blocks}};
  aiinfra_status rc = tell(m, o, NULL, err);
  if (rc == AIINFRA_OK) rc = aii_comm_agree(comm_of(m), rc, err);
  if (rc == AIINFRA_OK) {
    m->cache_ids |= (uint64_t)1 << id;
    kv->id = id;
    kv->told = true;
  }
  aii_device_unlock(m->rt);
  return rc;
}

void aii_ranks_cache_free(aiinfra_model *m, aii_kv_view *kv)
{
  if (!leads(m) || !kv->told) return;
  aii_device_lock(m->rt);
  (void)tell(m, (order){.what = CACHE_FREE, .a = {kv->id}}, NULL, NULL);
  m->cache_ids &= ~((uint64_t)1 << kv->id);
  kv->told = false;
  aii_device_unlock(m->rt);
}

aiinfra_status aii_model_copy_block(aiinfra_model *m, const aii_kv_view *kv, uint32_t from, uint32_t to,
                                    aiinfra_error *err)
{
  aii_backend *be = m->rt->backend;
  aiinfra_status rc = AIINFRA_OK;
  if (leads(m)) rc = tell(m, (order){.what = COPY_BLOCK, .a = {kv->id, from, to}}, NULL, err);
  return rc == AIINFRA_OK ? be->ops->copy_block(be, kv, from, to, err) : rc;
}

void aii_ranks_end(aiinfra_model *m)
{
  if (leads(m) && m->met) (void)tell(m, (order){.what = END}, NULL, NULL);
}

/* Blocks that a sequence's table needs. */
static uint32_t widest(const aii_kv_view *kv, const aii_rows *rows)
{
  uint32_t most = 0;
  for (uint32_t r = 0; r < rows->n_rows; r++) most = AII_MAX(most, rows->pos[r] / kv->block_tokens + 1);
  return most;
}

static uint32_t *put(uint32_t *to, const void *from, size_t n)
{
  if (n > 0) memcpy(to, from, n * sizeof *to);
  return to + n;
}

/* The list: tokens, positions, sequences, rows of logits, of hidden states, then each sequence's table. */
aiinfra_status aii_ranks_forward(aiinfra_model *m, const aii_kv_view *kv, const aii_forward *f, aiinfra_error *err)
{
  if (!leads(m)) return AIINFRA_OK;
  const aii_rows *rows = &f->rows;
  uint32_t stride = widest(kv, rows), n = rows->n_rows;
  size_t words = 3 * (size_t)n + f->n_logits + f->n_hidden + (size_t)rows->n_seqs * stride;
  if (words > UINT32_MAX) return aii_fail(err, AIINFRA_ELIMIT, "too many rows for the other ranks");
  if (!aii_grow(&m->rt->mem, &m->order_words, &m->order_words_cap, words, sizeof *m->order_words))
    return aii_fail(err, AIINFRA_ENOMEM, "no memory to tell the other ranks of %u rows", n);
  uint32_t *p = put(m->order_words, rows->tokens, n);
  p = put(put(p, rows->pos, n), rows->seq, n);
  p = put(put(p, f->logit_rows, f->n_logits), f->hidden_rows, f->n_hidden);
  memset(p, 0, (size_t)rows->n_seqs * stride * sizeof *p);
  for (uint32_t r = 0; r < n; r++) {
    if (r + 1 < n && rows->seq[r + 1] == rows->seq[r]) continue; /* the last row of a sequence sees furthest */
    (void)put(p + (size_t)rows->seq[r] * stride, rows->tables[rows->seq[r]], rows->pos[r] / kv->block_tokens + 1);
  }
  order o = {
      .what = FORWARD, .a = {kv->id, n, rows->n_seqs, f->n_logits, f->n_hidden, stride}, .n_words = (uint32_t)words};
  return tell(m, o, m->order_words, err);
}

/* ---- the others --------------------------------------------------------------------------------------------------- */

typedef struct follower {
  aiinfra_model *m;
  aii_workspace *ws;
  uint32_t max_rows, max_logits;
  aii_kv_view caches[AII_MAX_CACHES];
  const uint32_t **tables;
  size_t tables_cap;
} follower;

static aiinfra_status make_workspace(follower *f, const order *o, aiinfra_error *err)
{
  uint32_t rows = AII_MAX(f->max_rows, o->a[0]), logits = AII_MAX(f->max_logits, o->a[1]);
  aii_workspace *ws = NULL;
  aiinfra_status rc = aii_workspace_create(f->m, rows, logits, &ws, err);
  if (rc == AIINFRA_OK) {
    aii_workspace_free(f->ws);
    f->ws = ws;
    f->max_rows = rows;
    f->max_logits = logits;
  }
  return rc;
}

static aiinfra_status make_cache(follower *f, const order *o, aiinfra_error *err)
{
  const aii_hparams *hp = &f->m->hp;
  aii_backend *be = f->m->rt->backend;
  aii_kv_view kv = {.type = (aii_dtype)o->a[1],
                    .n_layers = hp->n_layers,
                    .n_kv_heads = hp->n_kv_heads,
                    .head_dim = hp->head_dim,
                    .value_dim = hp->value_dim,
                    .block_tokens = o->a[2],
                    .n_blocks = o->a[3]};
  size_t bytes;
  if (o->a[0] >= AII_MAX_CACHES || !aii_kv_lay_out(&kv) || !aii_size_mul(kv.block_bytes, kv.n_blocks, &bytes))
    return aii_fail(err, AIINFRA_EINTERNAL, "an order for a cache that cannot be");
  aiinfra_status rc = be->ops->alloc(be, bytes, &kv.base, err);
  if (rc == AIINFRA_OK) f->caches[o->a[0]] = kv;
  return rc;
}

static void free_cache(follower *f, uint32_t id)
{
  aii_kv_view *kv = &f->caches[id % AII_MAX_CACHES];
  aii_backend *be = f->m->rt->backend;
  if (kv->base != NULL) be->ops->release(be, kv->base, kv->block_bytes * kv->n_blocks);
  kv->base = NULL;
}

static aiinfra_status run(follower *f, const order *o, const uint32_t *words, aiinfra_error *err)
{
  const aii_kv_view *kv = &f->caches[o->a[0] % AII_MAX_CACHES];
  uint32_t n = o->a[1], n_seqs = o->a[2], stride = o->a[5];
  aii_forward mine = {.rows = {.n_rows = n, .n_seqs = n_seqs}, .n_logits = o->a[3], .n_hidden = o->a[4]};
  if (f->ws == NULL || kv->base == NULL ||
      o->n_words != 3 * (uint64_t)n + o->a[3] + o->a[4] + (uint64_t)n_seqs * stride)
    return aii_fail(err, AIINFRA_EINTERNAL, "an order that does not fit those before");
  if (!aii_grow(&f->m->rt->mem, &f->tables, &f->tables_cap, n_seqs, sizeof *f->tables))
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for %u sequences", n_seqs);
  mine.rows.tokens = (const aiinfra_token *)words;
  mine.rows.pos = words + n;
  mine.rows.seq = words + 2 * (size_t)n;
  mine.logit_rows = words + 3 * (size_t)n;
  mine.hidden_rows = mine.logit_rows + o->a[3];
  for (uint32_t s = 0; s < n_seqs; s++) f->tables[s] = mine.hidden_rows + o->a[4] + (size_t)s * stride;
  mine.rows.tables = f->tables;
  return aii_model_forward(f->m, f->ws, kv, &mine, err);
}

static aiinfra_status obey(follower *f, const order *o, const uint32_t *words, aiinfra_error *err)
{
  const aii_kv_view *kv = &f->caches[o->a[0] % AII_MAX_CACHES];
  aii_backend *be = f->m->rt->backend;
  switch ((what)o->what) {
    case WORKSPACE: return aii_comm_agree(comm_of(f->m), make_workspace(f, o, err), err);
    case CACHE: return aii_comm_agree(comm_of(f->m), make_cache(f, o, err), err);
    case CACHE_FREE: free_cache(f, o->a[0]); return AIINFRA_OK;
    case COPY_BLOCK: return be->ops->copy_block(be, kv, o->a[1], o->a[2], err);
    case FORWARD: return run(f, o, words, err);
    default: return aii_fail(err, AIINFRA_EINTERNAL, "an order that is not known: %u", o->what);
  }
}

/* One order; *ended: it was the last. */
static aiinfra_status next(follower *f, bool *ended, aiinfra_error *err)
{
  aiinfra_model *m = f->m;
  aii_comm *comm = comm_of(m);
  order o;
  aiinfra_status rc = comm->ops->tell(comm, &o, sizeof o, err);
  if (rc != AIINFRA_OK) return rc;
  *ended = o.what == END;
  if (*ended) return AIINFRA_OK;
  if (!aii_grow(&m->rt->mem, &m->order_words, &m->order_words_cap, o.n_words, sizeof *m->order_words))
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for an order of %u words", o.n_words);
  if (o.n_words > 0) rc = comm->ops->tell(comm, m->order_words, o.n_words * sizeof *m->order_words, err);
  if (rc != AIINFRA_OK) return rc;
  aii_device_lock(m->rt);
  rc = obey(f, &o, m->order_words, err);
  aii_device_unlock(m->rt);
  return rc;
}

aiinfra_status aii_ranks_follow(aiinfra_model *m, aiinfra_error *err)
{
  follower f = {.m = m};
  bool ended = false;
  aiinfra_status rc = AIINFRA_OK;
  while (rc == AIINFRA_OK && !ended) rc = next(&f, &ended, err);
  for (uint32_t id = 0; id < AII_MAX_CACHES; id++) free_cache(&f, id);
  aii_workspace_free(f.ws);
  aii_del(&m->rt->mem, f.tables, f.tables_cap * sizeof *f.tables);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "rank %u", comm_of(m)->rank);
}
