/* docs.c - the documents of an index's slots: packed payloads in memory, so that filters parse no JSON.
 *
 * They are read when the first filter comes, and kept in step by sync.c from then on. Each block of slots has a buffer
 * of documents, in the order in which they came, which is that of the slots: a filter reads memory from front to back.
 * A payload that changes is put behind the others, where nobody looks before the change is shown; when half of a buffer is old
 * it is written anew. What all of them take is bounded: beyond the limit they are dropped, and filters read the rows instead.
 * Slots that move take their documents along. Locks are the index's.
 */
#include "src/vector/doc.h"

enum { KEEP_OLD = 4096 }; /* bytes of old documents that are not worth writing a buffer anew */
#define NO_DOC UINT32_MAX

struct aii_doc_block {
  char *data;
  size_t len, cap;
  size_t old;                   /* bytes of documents that were replaced */
  uint32_t at[AII_BLOCK_SLOTS]; /* in units of 8 bytes */
};

void aii_docs_init(aii_docs *docs, aii_mem *mem, size_t limit_bytes)
{
  memset(docs, 0, sizeof *docs);
  aii_keys_init(&docs->keys, mem);
  docs->limit_bytes = limit_bytes;
}

static aii_doc_block *new_block(aii_mem *mem)
{
  aii_doc_block *block = aii_new(mem, sizeof *block);
  if (block != NULL) memset(block->at, 0xFF, sizeof block->at);
  return block;
}

static void free_block(aii_mem *mem, aii_doc_block *block)
{
  aii_del(mem, block->data, block->cap);
  aii_del(mem, block, sizeof *block);
}

void aii_docs_clear(aii_docs *docs)
{
  aii_mem *mem = docs->keys.mem;
  for (size_t i = 0; i < docs->n_blocks; i++) free_block(mem, docs->blocks[i]);
  aii_del(mem, docs->blocks, docs->blocks_cap * sizeof *docs->blocks);
  aii_keys_free(&docs->keys);
  aii_docs_init(docs, mem, docs->limit_bytes);
}

static const aii_cell *doc_at(const aii_doc_block *block, uint32_t at)
{
  return (const aii_cell *)(const void *)(block->data + (size_t)at * 8);
}

const aii_cell *aii_docs_get(const aii_docs *docs, uint32_t slot)
{
  size_t at = slot / AII_BLOCK_SLOTS;
  if (at >= docs->n_blocks || docs->blocks[at]->at[slot % AII_BLOCK_SLOTS] == NO_DOC) return &aii_doc_empty;
  return doc_at(docs->blocks[at], docs->blocks[at]->at[slot % AII_BLOCK_SLOTS]);
}

void aii_docs_bind(aii_index *index, aii_filter *filter)
{
  (void)pthread_mutex_lock(&index->keys);
  (void)aii_filter_bind(filter, &index->docs.keys, false); /* nothing is added: cannot fail */
  (void)pthread_mutex_unlock(&index->keys);
}

/* ---- coming in ------------------------------------------------------------------------------------------------- */

bool aii_docs_pack(aii_docs *docs, const json_t *payload, aii_buf *doc)
{
  size_t keys = docs->keys.bytes;
  aii_buf_clear(doc);
  bool ok = payload == NULL || aii_doc_pack(&docs->keys, true, payload, doc);
  docs->bytes += docs->keys.bytes - keys;
  return ok;
}

bool aii_docs_has_room(const aii_docs *docs, uint32_t slot, size_t n)
{
  size_t at = slot / AII_BLOCK_SLOTS;
  return at < docs->n_blocks && n <= docs->blocks[at]->cap - docs->blocks[at]->len;
}

static bool reach(aii_docs *docs, size_t block)
{
  aii_mem *mem = docs->keys.mem;
  if (!aii_grow(mem, &docs->blocks, &docs->blocks_cap, block + 1, sizeof *docs->blocks)) return false;
  while (docs->n_blocks <= block) {
    aii_doc_block *next = new_block(mem);
    if (next == NULL) return false;
    docs->blocks[docs->n_blocks++] = next;
    docs->bytes += sizeof *next;
  }
  return true;
}

bool aii_docs_room(aii_docs *docs, uint32_t slot, size_t n)
{
  if (!reach(docs, slot / AII_BLOCK_SLOTS)) return false;
  aii_doc_block *block = docs->blocks[slot / AII_BLOCK_SLOTS];
  size_t cap = block->cap;
  bool over = (block->len + n) / 8 >= NO_DOC;
  if (!over && !aii_grow(docs->keys.mem, &block->data, &block->cap, block->len + n, 1)) return false;
  docs->bytes += block->cap - cap;
  if (over || docs->bytes > docs->limit_bytes) {
    aii_docs_clear(docs);
    docs->state = AII_DOCS_OVER;
  }
  return true;
}

uint32_t aii_docs_place(aii_docs *docs, uint32_t slot, const void *doc, size_t n)
{
  aii_doc_block *block = docs->blocks[slot / AII_BLOCK_SLOTS];
  size_t at = block->len;
  if (n == 0) return NO_DOC;
  memcpy(block->data + at, doc, n);
  block->len += n;
  return (uint32_t)(at / 8);
}

void aii_docs_drop(aii_docs *docs, uint32_t slot, uint32_t at)
{
  if (at == NO_DOC) return;
  aii_doc_block *block = docs->blocks[slot / AII_BLOCK_SLOTS];
  block->old += aii_doc_bytes(doc_at(block, at));
}

void aii_docs_show(aii_docs *docs, uint32_t slot, uint32_t at)
{
  uint32_t *to = &docs->blocks[slot / AII_BLOCK_SLOTS]->at[slot % AII_BLOCK_SLOTS];
  aii_docs_drop(docs, slot, *to);
  *to = at;
}

/* ---- written anew ---------------------------------------------------------------------------------------------- */

/* A block without what is old; NULL: no memory. */
static aii_doc_block *without_old(aii_mem *mem, const aii_doc_block *block)
{
  aii_doc_block *next = new_block(mem);
  if (next == NULL) return NULL;
  if (!aii_grow(mem, &next->data, &next->cap, block->len - block->old, 1)) {
    free_block(mem, next);
    return NULL;
  }
  for (uint32_t i = 0; i < AII_BLOCK_SLOTS; i++) {
    if (block->at[i] == NO_DOC) continue;
    const aii_cell *doc = doc_at(block, block->at[i]);
    next->at[i] = (uint32_t)(next->len / 8);
    memcpy(next->data + next->len, doc, aii_doc_bytes(doc));
    next->len += aii_doc_bytes(doc);
  }
  return next;
}

/* Memory that is out now may be there at the next change. */
void aii_index_tidy(aii_index *index)
{
  aii_docs *docs = &index->docs;
  for (size_t i = 0; i < docs->n_blocks; i++) {
    aii_doc_block *block = docs->blocks[i];
    if (block->old <= KEEP_OLD || block->old <= block->len / 2) continue;
    aii_doc_block *next = without_old(index->mem, block);
    if (next == NULL) return;
    (void)pthread_rwlock_wrlock(&index->lock);
    docs->blocks[i] = next;
    (void)pthread_rwlock_unlock(&index->lock);
    docs->bytes = docs->bytes - block->cap + next->cap;
    free_block(index->mem, block);
  }
}

/* Keys stay where they are. */
bool aii_docs_copy(const aii_docs *docs, const uint32_t *map, uint32_t n, aii_docs *to)
{
  bool ok = true;
  to->limit_bytes = docs->limit_bytes;
  to->state = docs->state;
  for (uint32_t slot = 0; ok && to->state == AII_DOCS_ON && slot < n; slot++) {
    if (map[slot] == AII_NO_SLOT) continue;
    const aii_cell *doc = aii_docs_get(docs, slot);
    size_t bytes = doc != &aii_doc_empty ? aii_doc_bytes(doc) : 0;
    ok = aii_docs_room(to, map[slot], bytes);
    if (ok && to->state == AII_DOCS_ON) aii_docs_show(to, map[slot], aii_docs_place(to, map[slot], doc, bytes));
  }
  if (!ok) aii_docs_clear(to);
  return ok;
}
