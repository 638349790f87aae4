/* docs.c - the documents of an index's slots: packed payloads in memory, so that filters parse no JSON.
 *
 * They are read when the first filter comes, and kept in step by sync.c from then on. Each block of slots has a buffer
 * of documents, in the order in which they came, which is that of the slots: a filter reads memory from front to back.
 * A payload that changes is put behind the others; when half of a buffer is old it is written anew. What all of them
 * take is bounded: beyond the limit they are dropped, and filters read the rows instead. Locks are the index's.
 */
#include "src/vector/doc.h"

enum { KEEP_OLD = 4096 }; /* bytes of old documents that are not worth writing a buffer anew */
#define NO_DOC UINT32_MAX

struct aii_doc_block {
  aii_buf bytes;
  size_t old;                   /* bytes of documents that were replaced */
  uint32_t at[AII_BLOCK_SLOTS]; /* in units of 8 bytes */
};

void aii_docs_init(aii_docs *docs, aii_mem *mem, size_t limit_bytes)
{
  memset(docs, 0, sizeof *docs);
  aii_keys_init(&docs->keys, mem);
  docs->limit_bytes = limit_bytes;
}

void aii_docs_clear(aii_docs *docs)
{
  aii_mem *mem = docs->keys.mem;
  for (size_t i = 0; i < docs->n_blocks; i++) {
    aii_buf_free(&docs->blocks[i]->bytes);
    aii_del(mem, docs->blocks[i], sizeof *docs->blocks[i]);
  }
  aii_del(mem, docs->blocks, docs->blocks_cap * sizeof *docs->blocks);
  aii_keys_free(&docs->keys);
  aii_docs_init(docs, mem, docs->limit_bytes);
}

static bool reach(aii_docs *docs, size_t block)
{
  aii_mem *mem = docs->keys.mem;
  if (!aii_grow(mem, &docs->blocks, &docs->blocks_cap, block + 1, sizeof *docs->blocks)) return false;
  while (docs->n_blocks <= block) {
    aii_doc_block *next = aii_new(mem, sizeof *next);
    if (next == NULL) return false;
    aii_buf_init(&next->bytes, mem, (size_t)NO_DOC * 8 - 8);
    memset(next->at, 0xFF, sizeof next->at);
    docs->blocks[docs->n_blocks++] = next;
    docs->bytes += sizeof *next;
  }
  return true;
}

static const aii_cell *doc_at(const aii_doc_block *block, uint32_t at)
{
  return (const aii_cell *)(const void *)(block->bytes.data + (size_t)at * 8);
}

/* Leaves out what is old. Memory that is out now may be there at the next change. */
static void compact(aii_docs *docs, aii_doc_block *block)
{
  aii_buf next;
  aii_buf_init(&next, docs->keys.mem, 0);
  for (uint32_t i = 0; i < AII_BLOCK_SLOTS; i++) {
    if (block->at[i] != NO_DOC)
      aii_buf_add(&next, doc_at(block, block->at[i]), aii_doc_bytes(doc_at(block, block->at[i])));
  }
  if (next.failed) {
    aii_buf_free(&next);
    return;
  }
  size_t at = 0;
  for (uint32_t i = 0; i < AII_BLOCK_SLOTS; i++) {
    if (block->at[i] == NO_DOC) continue;
    size_t n = aii_doc_bytes(doc_at(block, block->at[i]));
    block->at[i] = (uint32_t)(at / 8);
    at += n;
  }
  docs->bytes = docs->bytes - block->bytes.cap + next.cap;
  aii_buf_free(&block->bytes);
  block->bytes = next;
  block->old = 0;
}

bool aii_docs_set(aii_docs *docs, uint32_t slot, const json_t *payload)
{
  uint32_t in = slot % AII_BLOCK_SLOTS;
  if (!reach(docs, slot / AII_BLOCK_SLOTS)) return false;
  aii_doc_block *block = docs->blocks[slot / AII_BLOCK_SLOTS];
  if (block->at[in] != NO_DOC) block->old += aii_doc_bytes(doc_at(block, block->at[in]));
  block->at[in] = NO_DOC;
  if (block->old > KEEP_OLD && block->old > block->bytes.len / 2) compact(docs, block);
  size_t cap = block->bytes.cap, at = block->bytes.len, keys = docs->keys.bytes;
  if (payload != NULL && !aii_doc_pack(&docs->keys, true, payload, &block->bytes)) {
    bool over = block->bytes.over; /* a block has its own limit */
    if (over) aii_docs_clear(docs);
    if (over) docs->state = AII_DOCS_OVER;
    else block->bytes.failed = false;
    return over;
  }
  if (payload != NULL) block->at[in] = (uint32_t)(at / 8);
  docs->bytes += block->bytes.cap - cap + docs->keys.bytes - keys;
  if (docs->bytes > docs->limit_bytes) {
    aii_docs_clear(docs);
    docs->state = AII_DOCS_OVER;
  }
  return true;
}

const aii_cell *aii_docs_get(const aii_docs *docs, uint32_t slot)
{
  size_t at = slot / AII_BLOCK_SLOTS;
  if (at >= docs->n_blocks || docs->blocks[at]->at[slot % AII_BLOCK_SLOTS] == NO_DOC) return &aii_doc_empty;
  return doc_at(docs->blocks[at], docs->blocks[at]->at[slot % AII_BLOCK_SLOTS]);
}
