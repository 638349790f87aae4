/* src/memory/memory.h - what an agent knows, below one scope.
 *
 *   memory.c   opens a scope                 items.c    facts, recall, forgetting
 *   embed.c    text to vector, no model      ingest.c   documents to passages
 *   chunk.c    cuts a document               files.c    finds and reads files
 *   page.c     messages and blocks
 *
 * Invariants:
 * 1. Every statement that reads names the scope, or an item of it. Vectors and words of a scope are a collection of
 *    their own, so that not even scores depend on another scope.
 * 2. An item, its text, its vector and its words are written and removed in one transaction.
 */
#ifndef AII_MEMORY_H
#define AII_MEMORY_H

#include "aiinfra/memory.h"
#include "lib/base/base.h"
#include "src/db/db.h"
#include "src/vector/vector.h"
#include "src/wording/wording.h"

struct aiinfra_memory {
  _Atomic uint32_t refs;
  aiinfra_db *db;
  aiinfra_vecstore *store; /* texts and vectors; a row's id is the item's */
  int64_t scope;
};

aiinfra_status aii_memory_open(aiinfra_db *db, const char *scope, aiinfra_memory **out, aiinfra_error *err);
void aii_memory_ref(aiinfra_memory *memory);
void aii_memory_unref(aiinfra_memory *memory); /* any thread; NULL is allowed */

/* ---- documents (chunk.c, files.c, ingest.c) -------------------------------------------------------------------- */

typedef struct aii_chunk {
  size_t first, n;      /* bytes of the document */
  const char *headings; /* "Guide > Server", "" without; valid until the next call */
} aii_chunk;

enum { AII_HEADING_LEVELS = 6, AII_HEADING_BYTES = 96 };

typedef struct aii_chunker {
  const char *text;
  size_t n, at, max;
  size_t fence_end; /* we are inside a code block until here */
  bool markdown;
  char heading[AII_HEADING_LEVELS][AII_HEADING_BYTES];
  char path[AII_HEADING_LEVELS * (AII_HEADING_BYTES + 4)];
} aii_chunker;

/* Cuts UTF-8 text into pieces of at most max bytes (at least 16). text must outlive the chunker. */
void aii_chunker_init(aii_chunker *c, const char *text, size_t n, size_t max, bool markdown);
bool aii_chunker_next(aii_chunker *c, aii_chunk *out); /* false: the end */

#define AII_FILE_MAX_BYTES ((size_t)16 << 20)

typedef struct aii_files {
  aii_mem *mem;
  char **paths; /* absolute, symbolic links resolved */
  size_t n, cap;
} aii_files;
void aii_files_init(aii_files *files, aii_mem *mem);
void aii_files_free(aii_files *files);
/* Adds a file, or all files below a folder in the order of their names; hidden ones and links to folders are left
 * out. ENOENT when there is nothing at path. */
aiinfra_status aii_files_add(aii_files *files, const char *path, aiinfra_error *err);
/* Reads a file. *is_text false: too large, or not UTF-8; then nothing is kept. */
aiinfra_status aii_file_read(const char *path, aii_buf *out, bool *is_text, aiinfra_error *err);

aiinfra_status aii_memory_ingest(aiinfra_memory *memory, const aii_files *files, aiinfra_progress_fn progress,
                                 void *user, aiinfra_ingest_stats *stats, aiinfra_error *err);

/* ---- items (items.c) ------------------------------------------------------------------------------------------- */

/* A new item, inside the caller's transaction, lock held. document 0: none. */
typedef struct aii_item {
  aiinfra_memory_kind kind;
  int64_t document;
  const char *text, *metadata, *keywords; /* metadata and keywords may be NULL */
  int64_t hash;                           /* of the normalised text */
  size_t first_byte, n_bytes;
  const float *vector;
} aii_item;
aiinfra_status aii_items_insert(aiinfra_memory *memory, const aii_item *item, int64_t *id, aiinfra_error *err);

aiinfra_status aii_memory_remember(aiinfra_memory *memory, const char *text, const char *metadata, int64_t *id,
                                   aiinfra_error *err);
aiinfra_status aii_memory_forget(aiinfra_memory *memory, int64_t id, aiinfra_error *err);
/* opts is complete, k set. Appends a JSON array. */
aiinfra_status aii_memory_recall(aiinfra_memory *memory, const char *question, const aiinfra_recall_opts *opts,
                                 aii_buf *json, aiinfra_error *err);

/* ---- messages and blocks (page.c) ------------------------------------------------------------------------------ */

aiinfra_status aii_memory_append(aiinfra_memory *memory, const char *conversation, const char *message,
                                 aiinfra_error *err);
/* The last messages as a JSON array; one that answers a tool call is never the first. */
aiinfra_status aii_memory_history(aiinfra_memory *memory, const char *conversation, uint32_t last, aii_buf *json,
                                  aiinfra_error *err);
aiinfra_status aii_memory_set_block(aiinfra_memory *memory, const char *label, const char *text, aiinfra_error *err);
aiinfra_status aii_memory_blocks(aiinfra_memory *memory, aii_buf *json, aiinfra_error *err);

#endif
