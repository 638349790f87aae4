/* kv_api.c - the public functions of aiinfra/kv.h: one slab of device memory for all blocks, and the pool over it. */
#include "src/kv/kv.h"

enum { DEFAULT_BLOCK_TOKENS = 16, DEFAULT_SEQUENCES = 4, PART_OF_FREE = 4 };

void aii_kv_ref(aiinfra_kv *kv)
{
  atomic_fetch_add_explicit(&kv->refs, 1, memory_order_relaxed);
}

static void destroy(aiinfra_kv *kv)
{
  aiinfra_model *model = kv->model;
  aii_backend *be = model->rt->backend;
  aii_ranks_cache_free(model, &kv->view);
  aii_kv_store_free(kv->store);
  aii_kv_pool_free(kv->pool);
  if (kv->view.base != NULL) be->ops->release(be, kv->view.base, kv->slab_bytes);
  aii_del(&model->rt->mem, kv, sizeof *kv);
  aii_model_unref(model);
}

void aii_kv_unref(aiinfra_kv *kv)
{
  if (atomic_fetch_sub_explicit(&kv->refs, 1, memory_order_acq_rel) == 1) destroy(kv);
}

static aiinfra_status check_opts(const aiinfra_model *model, aiinfra_kv_opts *o, aiinfra_error *err)
{
  if (model->vocab_only) return aii_fail(err, AIINFRA_ENOTSUP, "the model was opened vocab_only: it cannot run");
  if (o->block_tokens == 0) o->block_tokens = DEFAULT_BLOCK_TOKENS;
  if (o->block_tokens > 256 || (o->block_tokens & (o->block_tokens - 1)) != 0) {
    return aii_fail(err, AIINFRA_EINVAL, "block_tokens is %u; it must be a power of two up to 256", o->block_tokens);
  }
  if (o->dtype == AIINFRA_DTYPE_DEFAULT) {
    o->dtype = model->tok_embd.type == AII_F32 ? AIINFRA_DTYPE_F32 : AIINFRA_DTYPE_F16;
  }
  if (o->dtype != AIINFRA_DTYPE_F32 && o->dtype != AIINFRA_DTYPE_F16 && o->dtype != AIINFRA_DTYPE_Q8_0) {
    return aii_fail(err, AIINFRA_EINVAL,
                    "dtype is %d; a cache holds AIINFRA_DTYPE_F32, AIINFRA_DTYPE_F16 or AIINFRA_DTYPE_Q8_0", o->dtype);
  }
  return AIINFRA_OK;
}

/* Sizes of one block. */
static aiinfra_status lay_out(aiinfra_kv *kv, const aiinfra_kv_opts *o, aiinfra_error *err)
{
  const aii_hparams *hp = &kv->model->hp;
  aii_dtype type = o->dtype == AIINFRA_DTYPE_F32 ? AII_F32 : o->dtype == AIINFRA_DTYPE_F16 ? AII_F16 : AII_Q8_0;
  kv->view = (aii_kv_view){.type = type,
                           .n_layers = hp->n_layers,
                           .n_kv_heads = hp->n_kv_heads,
                           .head_dim = hp->head_dim,
                           .value_dim = hp->value_dim,
                           .block_tokens = o->block_tokens};
  if (aii_kv_lay_out(&kv->view)) return AIINFRA_OK;
  return aii_fail(
      err, AIINFRA_EINVAL,
      "a cache of %s wants keys and values of multiples of %u elements; this model's have %u and %u: choose "
      "F16 or F32",
      aii_dtype_info((uint32_t)type)->name, aii_dtype_info((uint32_t)type)->block, hp->head_dim, hp->value_dim);
}

static uint64_t blocks_of(const aii_kv_view *view, uint32_t n_tokens)
{
  return ((uint64_t)n_tokens + view->block_tokens - 1) / view->block_tokens;
}

/* n_tokens 0: as many as the budget holds. */
static aiinfra_status choose_blocks(aiinfra_kv *kv, uint64_t budget, uint32_t n_tokens, aiinfra_error *err)
{
  const aii_kv_view *view = &kv->view;
  uint64_t free_bytes = kv->model->rt->backend->ops->free_bytes(kv->model->rt->backend);
  uint64_t n = budget / view->block_bytes, per_seq = blocks_of(view, kv->model->max_context);
  if (n_tokens != 0) n = blocks_of(view, n_tokens);
  else if (budget == 0) n = AII_MIN(per_seq * DEFAULT_SEQUENCES, free_bytes / PART_OF_FREE / view->block_bytes);
  if (n == 0) {
    return aii_fail(err, AIINFRA_EINVAL, "a budget of %llu bytes holds no block of %zu bytes; raise budget_bytes",
                    (unsigned long long)(budget != 0 ? budget : free_bytes / PART_OF_FREE), view->block_bytes);
  }
  n = AII_MIN(n, (uint64_t)AII_NO_BLOCK - 1);
  if (free_bytes != 0 && n * view->block_bytes > free_bytes) {
    return aii_fail(err, AIINFRA_ENOMEM, "a cache of %llu bytes; the device has %llu left: lower budget_bytes",
                    (unsigned long long)(n * view->block_bytes), (unsigned long long)free_bytes);
  }
  kv->view.n_blocks = (uint32_t)n;
  kv->slab_bytes = (size_t)n * view->block_bytes;
  return AIINFRA_OK;
}

/* Blocks of the second tier, and room for them. */
static aiinfra_status reserve_slots(aiinfra_kv *kv, const aiinfra_kv_opts *o, uint32_t *n_slots, aiinfra_error *err)
{
  uint64_t n = o->spill_bytes / kv->view.block_bytes;
  *n_slots = 0;
  if (o->spill_bytes == 0 && o->spill_dir != NULL)
    return aii_fail(err, AIINFRA_EINVAL, "spill_dir is set, and spill_bytes is 0: say how much may lie there");
  if (o->spill_bytes == 0) return AIINFRA_OK;
  if (aii_is_split(kv->model))
    return aii_fail(err, AIINFRA_ENOTSUP, "a model that is split over ranks has no second tier: leave spill_bytes 0");
  if (n == 0)
    return aii_fail(err, AIINFRA_EINVAL, "spill_bytes is %llu, which holds no block of %zu bytes: raise it",
                    (unsigned long long)o->spill_bytes, kv->view.block_bytes);
  *n_slots = (uint32_t)AII_MIN(n, (uint64_t)AII_NO_BLOCK - 1 - kv->view.n_blocks);
  aii_device_lock(kv->model->rt);
  aiinfra_status rc =
      aii_kv_store_create(kv->model->rt->backend, o->spill_dir, *n_slots, kv->view.block_bytes, &kv->store, err);
  aii_device_unlock(kv->model->rt);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "second tier of %u KV blocks", *n_slots);
}

static aiinfra_status reserve(aiinfra_kv *kv, const aiinfra_kv_opts *o, uint32_t n_tokens, aiinfra_error *err)
{
  aii_backend *be = kv->model->rt->backend;
  aiinfra_status rc = lay_out(kv, o, err);
  if (rc == AIINFRA_OK) rc = choose_blocks(kv, o->budget_bytes, n_tokens, err);
  if (rc != AIINFRA_OK) return rc;
  rc = be->ops->alloc(be, kv->slab_bytes, &kv->view.base, err);
  if (rc != AIINFRA_OK) {
    kv->view.base = NULL;
    return aii_wrap(err, rc, "reserve %u KV blocks", kv->view.n_blocks);
  }
  uint32_t n_slots;
  rc = reserve_slots(kv, o, &n_slots, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_kv_pool_create(&kv->model->rt->mem, kv->view.n_blocks, n_slots, o->block_tokens, true, &kv->pool, err);
  return rc == AIINFRA_OK ? aii_ranks_cache(kv->model, &kv->view, err) : rc;
}

aiinfra_status aii_kv_create(aiinfra_model *model, const aiinfra_kv_opts *opts, uint32_t n_tokens, aiinfra_kv **out,
                             aiinfra_error *err)
{
  aiinfra_kv_opts o;
  *out = NULL;
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, dtype, err);
  if (rc == AIINFRA_OK) rc = check_opts(model, &o, err);
  if (rc != AIINFRA_OK) return rc;
  aiinfra_kv *kv = aii_new(&model->rt->mem, sizeof *kv);
  if (kv == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a KV cache");
  kv->model = model;
  atomic_init(&kv->refs, 1);
  aii_model_ref(model);
  rc = reserve(kv, &o, n_tokens, err);
  if (rc != AIINFRA_OK) {
    aii_kv_unref(kv);
    return rc;
  }
  *out = kv;
  return AIINFRA_OK;
}

aiinfra_status aiinfra_kv_create(aiinfra_model *model, const aiinfra_kv_opts *opts, aiinfra_kv **out,
                                 aiinfra_error *err)
{
  if (out == NULL) return aii_fail(err, AIINFRA_EINVAL, "out is NULL");
  *out = NULL;
  if (model == NULL) return aii_fail(err, AIINFRA_EINVAL, "model is NULL");
  return aii_kv_create(model, opts, 0, out, err);
}

void aiinfra_kv_free(aiinfra_kv *kv)
{
  if (kv != NULL) aii_kv_unref(kv);
}

aiinfra_status aiinfra_kv_get_stats(const aiinfra_kv *kv, aiinfra_kv_stats *stats, aiinfra_error *err)
{
  if (kv == NULL || stats == NULL) return aii_fail(err, AIINFRA_EINVAL, "kv or stats is NULL");
  size_t size = stats->struct_size;
  if (size < offsetof(aiinfra_kv_stats, spills) || size > sizeof *stats) {
    return aii_fail(err, size < sizeof *stats ? AIINFRA_EINVAL : AIINFRA_ENOTSUP,
                    "aiinfra_kv_stats: struct_size is %zu; version %s has %zu bytes", size, AIINFRA_VERSION_STRING,
                    sizeof *stats);
  }
  aiinfra_kv_stats all = {.struct_size = size, .block_bytes = kv->view.block_bytes};
  aii_kv_pool_stats(kv->pool, &all);
  memcpy(stats, &all, size);
  return AIINFRA_OK;
}
