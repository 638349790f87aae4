/* file_api.c - the prefix cache in a file, so that the next process need not compute what this one has.
 *
 * A header, then for each block of the tree, and for each slot of the second tier, its place in the tree, its tokens and
 * its bytes; the least recently used first. So whoever has less room leaves out the head of the file, and what is left
 * is whole: a child stands before its parent. Numbers are those of the machine; `order` tells of another one. Sums find
 * damage, not malice: a file is as trustworthy as who may write it.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "src/kv/pool.h"

static const char magic[8] = "AIIKVBLK";

enum { VERSION = 1, ORDER = 0x01020304 };
#define MOST_NAMES (UINT64_MAX / 2) /* so that new ones never run out */

typedef struct file_header {
  char magic[8];
  uint32_t order, version;
  uint32_t type, block_tokens, n_layers, n_kv_heads, head_dim, value_dim;
  uint64_t block_bytes, layer_bytes, value_offset;
  uint64_t model; /* aii_model_sum() */
  uint64_t epoch, n_blocks;
  uint64_t sum; /* of this header, with 0 here */
} file_header;

/* Tokens and bytes follow. */
typedef struct file_block {
  uint64_t name, parent, salt;
  uint64_t sum; /* of this, with 0 here, the tokens and the bytes */
} file_block;

_Static_assert(sizeof(file_header) == 96 && sizeof(file_block) == 32, "there is no padding");

static file_header header_of(aiinfra_kv *kv)
{
  const aii_kv_view *v = &kv->view;
  file_header h = {.order = ORDER,
                   .version = VERSION,
                   .type = (uint32_t)v->type,
                   .block_tokens = v->block_tokens,
                   .n_layers = v->n_layers,
                   .n_kv_heads = v->n_kv_heads,
                   .head_dim = v->head_dim,
                   .value_dim = v->value_dim,
                   .block_bytes = v->block_bytes,
                   .layer_bytes = v->layer_bytes,
                   .value_offset = v->value_offset,
                   .model = aii_model_sum(kv->model)};
  memcpy(h.magic, magic, sizeof magic);
  return h;
}

static size_t token_bytes(const aiinfra_kv *kv)
{
  return kv->view.block_tokens * sizeof(aiinfra_token);
}

static uint64_t header_sum(file_header h)
{
  h.sum = 0;
  return aii_hash64(&h, sizeof h, 0);
}

static uint64_t block_sum(const aiinfra_kv *kv, file_block b, const void *tokens, const void *bytes)
{
  b.sum = aii_sum_of(kv->model->rt->pool, bytes, kv->view.block_bytes);
  return aii_hash64(tokens, token_bytes(kv), aii_hash64(&b, sizeof b, 0));
}

/* ---- writing ---- */

typedef struct node {
  uint64_t name;
  uint32_t block;
} node;

static int younger_first(const void *a, const void *b)
{
  uint64_t x = ((const node *)a)->name, y = ((const node *)b)->name;
  return (x < y) - (x > y);
}

static uint32_t add_list(const aii_kv_pool *p, const aii_block_list *list, node *out, uint32_t n)
{
  for (uint32_t b = list->head; b != AII_NO_BLOCK; b = p->blocks[b].next) out[n++] = (node){p->blocks[b].name, b};
  return n;
}

/* All of the tree in the order of the file. A child has a larger name than its parent. */
static uint32_t nodes_of(const aii_kv_pool *p, node *out)
{
  uint32_t n = add_list(p, &p->cached, out, add_list(p, &p->spilled, out, 0)), held = n;
  for (uint32_t b = 0; b < p->n_blocks; b++)
    if (p->blocks[b].in_tree && p->blocks[b].refs > 0) out[n++] = (node){p->blocks[b].name, b};
  qsort(out + held, n - held, sizeof *out, younger_first);
  return n;
}

/* What the next step would do first. */
static aiinfra_status carry_out_moves(aiinfra_kv *kv, aiinfra_error *err)
{
  aii_kv_pool *p = kv->pool;
  aiinfra_status rc = AIINFRA_OK;
  for (uint32_t i = 0; rc == AIINFRA_OK && i < p->n_moves; i++)
    rc = aii_kv_store_move(kv->store, &kv->view, &p->moves[i], err);
  if (rc != AIINFRA_OK) aii_kv_forget(p);
  aii_kv_moves_done(p);
  return rc;
}

static aiinfra_status write_block(aiinfra_kv *kv, uint32_t block, char *room, aii_aside *file, aiinfra_error *err)
{
  aii_backend *be = kv->model->rt->backend;
  const aii_kv_pool *p = kv->pool;
  const aii_block *b = &p->blocks[block];
  const aiinfra_token *tokens = p->tokens + (size_t)block * p->block_tokens;
  const char *bytes = room;
  aiinfra_status rc = AIINFRA_OK;
  if (block >= p->n_blocks) bytes = aii_kv_store_slot(kv->store, block - p->n_blocks);
  else rc = be->ops->swap_block(be, &kv->view, block, room, true, err);
  if (rc == AIINFRA_OK) rc = be->ops->sync(be, err);
  if (rc != AIINFRA_OK) return rc;
  file_block head = {b->name, b->parent, b->salt, 0};
  head.sum = block_sum(kv, head, tokens, bytes);
  rc = aii_aside_write(file, &head, sizeof head, err);
  if (rc == AIINFRA_OK) rc = aii_aside_write(file, tokens, token_bytes(kv), err);
  return rc == AIINFRA_OK ? aii_aside_write(file, bytes, kv->view.block_bytes, err) : rc;
}

static aiinfra_status write_all(aiinfra_kv *kv, node *nodes, char *room, aii_aside *file, aiinfra_error *err)
{
  if (fchmod(file->fd, 0600) != 0) return aii_fail_errno(err, errno, "keep it for its owner alone");
  file_header h = header_of(kv);
  h.epoch = kv->pool->epoch;
  h.n_blocks = nodes_of(kv->pool, nodes);
  h.sum = header_sum(h);
  aiinfra_status rc = aii_aside_write(file, &h, sizeof h, err);
  for (uint64_t i = 0; rc == AIINFRA_OK && i < h.n_blocks; i++) rc = write_block(kv, nodes[i].block, room, file, err);
  return rc;
}

static aiinfra_status save(aiinfra_kv *kv, const char *path, aiinfra_error *err)
{
  aii_mem *mem = &kv->model->rt->mem;
  size_t n_nodes = (size_t)kv->pool->n_blocks + kv->pool->n_slots;
  node *nodes = aii_new_array(mem, n_nodes, sizeof *nodes);
  char *room = aii_new_aligned(mem, kv->view.block_bytes);
  aiinfra_status rc = AIINFRA_OK;
  aii_aside file;
  if (nodes == NULL || room == NULL) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a list of %zu blocks", n_nodes);
  if (rc == AIINFRA_OK) rc = aii_aside_open(&file, mem, path, err);
  if (rc == AIINFRA_OK) rc = aii_aside_close(&file, write_all(kv, nodes, room, &file, err), err);
  aii_del(mem, nodes, n_nodes * sizeof *nodes);
  aii_del_aligned(mem, room, kv->view.block_bytes);
  return rc;
}

aiinfra_status aiinfra_kv_save(aiinfra_kv *kv, const char *path, aiinfra_error *err)
{
  if (kv == NULL || path == NULL) return aii_fail(err, AIINFRA_EINVAL, "kv or path is NULL");
  if (aii_is_split(kv->model))
    return aii_fail(err, AIINFRA_ENOTSUP, "the cache of a model that is split over ranks is not saved");
  if (kv->pool->lent && kv->pool->n_moves > 0)
    return aii_fail(err, AIINFRA_EBUSY, "a step moves blocks: save when it has ended");
  aii_device_lock(kv->model->rt);
  aiinfra_status rc = carry_out_moves(kv, err);
  if (rc == AIINFRA_OK) rc = save(kv, path, err);
  aii_device_unlock(kv->model->rt);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "save the KV cache to '%s'", path);
}

/* ---- reading ---- */

static aiinfra_status wrong(aiinfra_error *err, const char *what)
{
  return aii_fail(err, AIINFRA_EFORMAT, "%s", what);
}

static aiinfra_status check_header(aiinfra_kv *kv, const aii_file *file, file_header *out, aiinfra_error *err)
{
  file_header h = {0}, want = header_of(kv);
  size_t each = sizeof(file_block) + token_bytes(kv) + kv->view.block_bytes;
  memcpy(&h, file->bytes, AII_MIN(file->size, sizeof h));
  if (memcmp(h.magic, magic, sizeof magic) != 0) return wrong(err, "this is no file of KV blocks");
  if (h.order != want.order) return wrong(err, "it comes from a machine of another byte order");
  if (h.version != want.version) return wrong(err, "it was made by another version");
  if (h.sum != header_sum(h)) return wrong(err, "it is damaged: the sum of its header is wrong");
  want.epoch = h.epoch, want.n_blocks = h.n_blocks, want.sum = h.sum;
  if (memcmp(&h, &want, sizeof h) != 0)
    return wrong(err, "it is of another model, another device, or a cache of another type or block size");
  if ((file->size - sizeof h) % each != 0 || (file->size - sizeof h) / each != h.n_blocks)
    return wrong(err, "it is damaged: its size is wrong");
  *out = h;
  return AIINFRA_OK;
}

/* Takes a block from the file into a free node, which the caller has. */
static aiinfra_status read_block(aiinfra_kv *kv, uint32_t to, const uint8_t *at, aiinfra_error *err)
{
  aii_backend *be = kv->model->rt->backend;
  aii_kv_pool *p = kv->pool;
  aii_block_list *list = to < p->n_blocks ? &p->cached : &p->spilled;
  const uint8_t *tokens = at + sizeof(file_block), *bytes = tokens + token_bytes(kv);
  aiinfra_status rc = AIINFRA_OK;
  file_block b;
  memcpy(&b, at, sizeof b);
  if (b.sum != block_sum(kv, (file_block){b.name, b.parent, b.salt, 0}, tokens, bytes))
    return wrong(err, "it is damaged: the sum of a block is wrong");
  if (b.parent >= b.name || b.name > MOST_NAMES) return wrong(err, "it is damaged: a block has a wrong name");
  memcpy(p->tokens + (size_t)to * p->block_tokens, tokens, token_bytes(kv));
  if (to >= p->n_blocks) memcpy(aii_kv_store_slot(kv->store, to - p->n_blocks), bytes, kv->view.block_bytes);
  else rc = be->ops->swap_block(be, &kv->view, to, (void *)(uintptr_t)bytes, false, err);
  aii_kv_tree_restore(p, to, b.name, b.parent, b.salt);
  aii_kv_list_append(p, list, to);
  return rc;
}

static aiinfra_status read_all(aiinfra_kv *kv, const aii_file *file, const file_header *h, aiinfra_error *err)
{
  aii_backend *be = kv->model->rt->backend;
  aii_kv_pool *p = kv->pool;
  size_t each = sizeof(file_block) + token_bytes(kv) + kv->view.block_bytes;
  uint64_t left = AII_MIN(h->n_blocks, (uint64_t)p->n_blocks + p->n_slots);
  const uint8_t *at = file->bytes + sizeof *h + (size_t)(h->n_blocks - left) * each;
  aiinfra_status rc = AIINFRA_OK;
  p->epoch = h->epoch;
  for (; rc == AIINFRA_OK && left > 0; left--, at += each)
    rc = read_block(kv, left > p->n_blocks ? aii_kv_take_free_slot(p) : aii_kv_take_free(p), at, err);
  aiinfra_status done = be->ops->sync(be, rc == AIINFRA_OK ? err : NULL); /* before the file goes */
  if (rc == AIINFRA_OK) rc = done;
  if (rc != AIINFRA_OK) aii_kv_forget(p);
  return rc;
}

aiinfra_status aiinfra_kv_load(aiinfra_kv *kv, const char *path, aiinfra_error *err)
{
  aii_file file;
  file_header h = {0};
  if (kv == NULL || path == NULL) return aii_fail(err, AIINFRA_EINVAL, "kv or path is NULL");
  if (aii_is_split(kv->model))
    return aii_fail(err, AIINFRA_ENOTSUP, "the cache of a model that is split over ranks is not loaded");
  if (kv->pool->n_names > 0 || kv->pool->n_free < kv->pool->n_blocks)
    return aii_fail(err, AIINFRA_EBUSY, "the cache was used already: load into a new one");
  aiinfra_status rc = aii_file_map(path, &file, err);
  if (rc != AIINFRA_OK) return rc;
  aii_device_lock(kv->model->rt);
  rc = check_header(kv, &file, &h, err);
  if (rc == AIINFRA_OK) rc = read_all(kv, &file, &h, err);
  aii_device_unlock(kv->model->rt);
  aii_file_unmap(&file);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "load the KV cache from '%s'", path);
}
