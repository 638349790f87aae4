/* src/memory/memory.h - what an agent knows, below one scope.
 *
 *   memory.c   opens a scope                 items.c    items: written, moved to the past, forgotten
 *   facts.c    remembered, revised, ended    history.c  listed, with all versions
 *   recall.c   found and scored              move.c     exported and imported
 *   files.c    finds and reads files         passages.c one file to passages
 *   document.c passages to rows              ingest.c   many files
 *   page.c     messages and blocks           pack.c     recalled items as one text
 *   blocks.c   what blocks may hold, edits   dense.c    vectors of embedders
 *   relate.c   what two facts are to each other  consolidate.c  facts brought together
 *   summary.c  conversations in short            care_api.c     all that needs nobody to wait
 *
 * Invariants:
 * 1. Every statement that reads names the scope, or an item of it. Vectors and words of a scope are a collection of
 *    their own, so that not even scores depend on another scope.
 * 2. An item, its text, its vector and its words are written and removed in one transaction.
 * 3. What was revised or has ended moves, text and vector, to the collection of the past: recall of what holds now never
 *    meets it, and costs the same however long the past is. A fact that ends in the future stays until it is asked for.
 */
#ifndef AII_MEMORY_H
#define AII_MEMORY_H

#include "aiinfra/memory.h"
#include "lib/base/base.h"
#include "src/db/db.h"
#include "src/retrieve/retrieve.h"
#include "src/vector/vector.h"
#include "src/wording/wording.h"

enum { AII_EMBEDDER_NAME = 129 };

/* The index of an embedder (dense.c). */
typedef struct aii_dense {
  char name[AII_EMBEDDER_NAME];
  uint32_t dims;
  aiinfra_vecstore *store; /* vectors alone; a row's id is the item's */
  struct aii_dense *next;
} aii_dense;

struct aiinfra_memory {
  _Atomic uint32_t refs;
  aiinfra_db *db;
  aiinfra_vecstore *store; /* texts and vectors; a row's id is the item's */
  aiinfra_vecstore *past;  /* the same for what no longer holds; NULL: not opened. Below the connection's lock */
  char *name;              /* the scope's */
  int64_t scope;
  /* below the connection's lock: */
  aii_dense *dense;          /* all indexes of embedders; only grows */
  aii_dense *active;         /* that of the embedder that this handle has; NULL: none */
  aiinfra_embedder embedder; /* its name is that of active */
};

/* What an item may be seen at: parameters 10 to 14, see aii_bind_times(). */
#define AII_VISIBLE                                                                              \
  " (i.expires_ms IS NULL OR i.expires_ms > ?10)"                                                \
  " AND CASE WHEN ?14 THEN i.created_ms <= ?13 AND (i.retired_ms IS NULL OR i.retired_ms > ?13)" \
  " ELSE i.retired_ms IS NULL END"                                                               \
  " AND CASE WHEN ?12 THEN coalesce(i.valid_from_ms, i.created_ms) <= ?11"                       \
  " ELSE i.valid_from_ms IS NULL OR i.valid_from_ms <= ?11 END"                                  \
  " AND (i.valid_to_ms IS NULL OR i.valid_to_ms > ?11)"                                          \
  " AND (i.ended_ms IS NULL OR i.ended_ms > ?11 OR (?14 AND i.ended_at_ms > ?13)) "
void aii_bind_times(aii_stmt *stmt, int64_t as_of_ms, int64_t known_at_ms);

aiinfra_status aii_memory_open(aiinfra_db *db, const char *scope, aiinfra_memory **out, aiinfra_error *err);
void aii_memory_ref(aiinfra_memory *memory);
void aii_memory_unref(aiinfra_memory *memory); /* any thread; NULL is allowed */
/* Opens the collection of the past; without `create` it stays NULL when there is none. No lock held. */
aiinfra_status aii_memory_open_past(aiinfra_memory *memory, bool create, aiinfra_error *err);
/* The id of the past's collection for joins on texts; -1: none. Lock held. */
int64_t aii_memory_past(const aiinfra_memory *memory);

/* ---- documents (files.c, passages.c, document.c, ingest.c) ---------------------------------------------------------- */

typedef struct aii_docfile {
  char *path; /* as a reader knows it: from the current folder when it lies below it */
  char *real; /* absolute, symbolic links resolved */
} aii_docfile;

/* What an ingestion did, and what it could not do. */
typedef struct aii_ingest_report {
  aiinfra_ingest_stats stats;
  uint64_t kept, renamed, gone, problems;
  aii_buf list; /* of problems: {"path", "why"}, ... */
} aii_ingest_report;
void aii_report_problem(aii_ingest_report *report, const char *path, const aiinfra_error *err);

typedef struct aii_files {
  aii_mem *mem;
  aii_ingest_report *report; /* receives what cannot be read below a folder; NULL: nobody wants to know */
  aii_docfile *files;
  size_t n, cap;
} aii_files;
void aii_files_init(aii_files *files, aii_mem *mem, aii_ingest_report *report);
void aii_files_free(aii_files *files);
/* Adds a file, or all files below a folder in the order of their names; hidden ones and links to folders are left
 * out. ENOENT when there is nothing at path. */
aiinfra_status aii_files_add(aii_files *files, const char *path, aiinfra_error *err);
/* Reads a file. ELIMIT: larger than AII_FILE_MAX_BYTES; ENOTSUP: no regular file. */
aiinfra_status aii_file_read(const char *path, aii_buf *out, aiinfra_error *err);

/* A passage that is to be written, or one that is there already. */
typedef struct aii_passage {
  char *text;     /* the passage alone */
  char *keywords; /* headings and the file's name */
  char *metadata;
  int64_t hash;         /* of the normalised text */
  size_t first_byte, n; /* bytes of the file */
  int64_t old;          /* the item that is this passage already; 0: none */
  bool embedded;        /* the vector is there */
  float vector[AII_EMBED_DIMS];
} aii_passage;

enum { AII_DOCUMENT_HASH = 16 };

typedef struct aii_document {
  aii_mem *mem;
  const aii_docfile *file;
  size_t n_bytes;
  unsigned char hash[AII_DOCUMENT_HASH]; /* of the bytes, and of how they are cut */
  int64_t id;                            /* 0: not known yet */
  bool unchanged;
  aii_passage *passages;
  size_t n, cap;
} aii_document;

/* How documents are cut: options of an ingestion, checked and complete. */
typedef struct aii_cutting {
  aii_cut_opts cut;
  const aiinfra_model *model;
} aii_cutting;

void aii_document_init(aii_document *doc, aii_mem *mem, const aii_docfile *file);
void aii_document_free(aii_document *doc);
void aii_document_hash(aii_document *doc, const aii_buf *bytes, const aii_cutting *cutting);
/* The words by which a passage is found beside its text. */
void aii_passage_keywords(const char *headings, const char *path, aii_buf *out);
aiinfra_status aii_document_cut(aii_document *doc, const aii_loaded *loaded, const aii_cutting *cutting,
                                aiinfra_error *err);

/* A document of the database whose file is gone. */
typedef struct aii_gone {
  int64_t id;
  unsigned char hash[AII_DOCUMENT_HASH];
  char *path;
} aii_gone;
typedef struct aii_gone_list {
  aii_gone *items;
  size_t n, cap;
} aii_gone_list;
/* Those below the paths, which are real. */
aiinfra_status aii_document_gone(aiinfra_memory *memory, char *const *roots, size_t n, aii_gone_list *out,
                                 aiinfra_error *err);
void aii_gone_free(aii_gone_list *list, aii_mem *mem);

/* Finds a document by its file; id is 0 when there is none. No lock held, as below. */
aiinfra_status aii_document_find(aiinfra_memory *memory, aii_document *doc, aiinfra_error *err);
/* Finds what of the document is there already, embeds the rest, and replaces what was. */
aiinfra_status aii_document_write(aiinfra_memory *memory, aii_document *doc, aii_ingest_report *report,
                                  aiinfra_error *err);
/* Removes a document whose file is gone. */
aiinfra_status aii_document_remove(aiinfra_memory *memory, int64_t id, aii_ingest_report *report, aiinfra_error *err);

typedef struct aii_ingest {
  aii_cutting cutting;
  aiinfra_progress_fn progress;
  void *user;
  bool keep_missing;
} aii_ingest;
aiinfra_status aii_memory_ingest(aiinfra_memory *memory, const char *const *paths, size_t n, const aii_ingest *how,
                                 aii_ingest_report *report, aiinfra_error *err);

/* ---- items (items.c) ------------------------------------------------------------------------------------------- */

/* A new item, inside the caller's transaction, lock held. */
typedef struct aii_item {
  aiinfra_memory_kind kind;
  int64_t document;                       /* 0: none */
  const char *text, *metadata, *keywords; /* metadata and keywords may be NULL */
  int64_t hash;                           /* of the normalised text */
  size_t first_byte, n_bytes;
  const float *vector;
  /* of facts; 0 or NULL: nothing told */
  const char *source, *wording; /* wording: canonical, NULL when there is none */
  int64_t valid_from_ms, valid_to_ms, expires_ms, chain, previous;
  int64_t created_ms; /* 0: now */
  int64_t ended_ms, ended_at_ms, retired_ms, reinforced;
  double trust, importance;
  bool past; /* goes to the collection of the past, which is open */
} aii_item;
aiinfra_status aii_items_insert(aiinfra_memory *memory, const aii_item *item, int64_t *id, aiinfra_error *err);
/* Takes texts, vectors and words of items out. */
aiinfra_status aii_items_take_out(aiinfra_memory *memory, const int64_t *ids, size_t n, size_t *n_removed,
                                  aiinfra_error *err);
/* Moves an item's text and vector to the past, which is open. */
aiinfra_status aii_items_bury(aiinfra_memory *memory, int64_t id, aiinfra_error *err);
/* Empties the log beside the file, so that no byte of what was removed is left. Lock held, no transaction. */
aiinfra_status aii_memory_scrub(aiinfra_memory *memory, aiinfra_error *err);

aiinfra_status aii_memory_forget(aiinfra_memory *memory, int64_t id, aiinfra_error *err);
aiinfra_status aii_memory_expire(aiinfra_memory *memory, uint64_t *n, aiinfra_error *err);
aiinfra_status aii_memory_forget_conversation(aiinfra_memory *memory, const char *conversation, aiinfra_error *err);
aiinfra_status aii_memory_forget_all(aiinfra_memory *memory, aiinfra_error *err);

enum { AII_FACT_BYTES = 65536 };
/* 1 to max bytes of UTF-8 (memory_api.c). */
aiinfra_status aii_memory_check_text(const char *what, const char *s, size_t max, aiinfra_error *err);

/* ---- facts (facts.c, history.c, move.c) ------------------------------------------------------------------------- */

/* A text with all that is made from it before the database is asked. */
typedef struct aii_text {
  const char *text;
  size_t n;
  aii_buf normal, wording; /* wording is empty when there is none */
  int64_t hash;
  float vector[AII_EMBED_DIMS];
} aii_text;
/* Whatever it returns, aii_text_free() must follow. */
aiinfra_status aii_text_make(aiinfra_memory *memory, const char *text, aii_text *out, aiinfra_error *err);
void aii_text_free(aii_text *text);
/* The item of a text; its strings are borrowed. */
aii_item aii_text_item(const aii_text *text);

typedef enum aii_outcome { AII_FACT_NEW, AII_FACT_SAME, AII_FACT_NEAR } aii_outcome;
aiinfra_status aii_memory_add_fact(aiinfra_memory *memory, const char *text, const aiinfra_fact_opts *opts, int64_t *id,
                                   aii_outcome *outcome, aiinfra_error *err);
/* text NULL: only ends. supersede: the world changed; else the old version was wrong. */
aiinfra_status aii_memory_replace(aiinfra_memory *memory, int64_t id, const char *text, const aiinfra_fact_opts *opts,
                                  bool supersede, int64_t *new_id, aiinfra_error *err);
aiinfra_status aii_memory_reinforce(aiinfra_memory *memory, int64_t id, aiinfra_error *err);
aiinfra_status aii_memory_fact_history(aiinfra_memory *memory, int64_t id, aii_buf *json, aiinfra_error *err);
/* opts is complete, limit set. */
aiinfra_status aii_memory_facts(aiinfra_memory *memory, const aiinfra_facts_opts *opts, aii_buf *json,
                                aiinfra_error *err);
/* Members of a fact as JSON, without the braces, from a statement that selects AII_FACT_COLUMNS. */
#define AII_FACT_COLUMNS                                                                                   \
  " i.id, r.text, i.created_ms, i.retired_ms, i.valid_from_ms, i.valid_to_ms, i.ended_ms, i.ended_at_ms, " \
  "i.expires_ms, i.chain, i.previous, i.source, i.trust, i.importance, i.reinforced, i.metadata "
void aii_fact_write(aii_stmt *stmt, bool with_state, aii_buf *json);
aiinfra_status aii_memory_export(aiinfra_memory *memory, aii_buf *jsonl, aiinfra_error *err);
aiinfra_status aii_memory_import(aiinfra_memory *memory, const char *jsonl, size_t n, uint64_t *n_taken,
                                 aiinfra_error *err);

/* ---- recall (recall.c) ------------------------------------------------------------------------------------------- */

/* Options of a caller, checked and complete; k as it was given (memory_api.c). */
aiinfra_status aii_recall_opts_load(aiinfra_recall_opts *o, const aiinfra_recall_opts *opts, aiinfra_error *err);
/* opts is complete, k set. Appends a JSON array, and gives the explanation, if it is wanted, when it succeeds. */
aiinfra_status aii_memory_recall(aiinfra_memory *memory, const char *question, const aiinfra_recall_opts *opts,
                                 aii_buf *json, aiinfra_error *err);

/* ---- embedders (dense.c) -------------------------------------------------------------------------------------------- */

void aii_dense_free(aiinfra_memory *memory, aii_dense *dense); /* and those behind it; NULL is allowed */
/* Opens the indexes of the scope that are not open yet. No lock held, as below. */
aiinfra_status aii_dense_refresh(aiinfra_memory *memory, aiinfra_error *err);
/* The index that searches use, brought up to date; NULL: there is none, or this handle has not its embedder. */
aiinfra_status aii_dense_ready(aiinfra_memory *memory, aii_dense **out, aiinfra_embedder *e, aiinfra_error *err);
aiinfra_status aii_dense_question(const aii_dense *dense, const aiinfra_embedder *e, const char *question, float *out,
                                  aiinfra_error *err);
/* The query's vector is searched in the index, its text in the scope's collection. There is room for k hits. */
aiinfra_status aii_dense_search(aiinfra_memory *memory, const aii_dense *dense, const aiinfra_query *query,
                                aiinfra_hit *hits, size_t *n, aiinfra_error *err);
/* e NULL: none. */
aiinfra_status aii_dense_migrate(aiinfra_memory *memory, const aiinfra_embedder *e, aiinfra_progress_fn progress,
                                 void *user, uint64_t *n_items, uint64_t *n_embedded, aiinfra_error *err);
aiinfra_status aii_dense_use(aiinfra_memory *memory, const aiinfra_embedder *e, aiinfra_error *err);

/* ---- packing (pack.c) ----------------------------------------------------------------------------------------------- */

typedef struct aii_pack {
  aiinfra_recall_opts recall; /* complete */
  size_t budget;
  const aiinfra_model *model; /* NULL: four bytes are a token */
  aiinfra_rerank_fn rerank;   /* NULL: none */
  void *rerank_user;
  bool texts; /* each source has its "text" beside what aiinfra_memory_pack() tells */
} aii_pack;
aiinfra_status aii_memory_pack(aiinfra_memory *memory, const char *question, const aii_pack *how, aii_buf *json,
                               aiinfra_error *err);

/* ---- care (relate.c, consolidate.c, summary.c) ------------------------------------------------------------------ */

typedef enum aii_relation { AII_UNRELATED, AII_SAYS_SAME, AII_CONTRADICTS } aii_relation;
/* What two facts are to each other, by rules for English. Never AII_SAYS_SAME with another negation, number, name or
 * order. *failed: no memory. */
aii_relation aii_facts_relate(aii_mem *mem, const char *a, const char *b, bool *failed);

/* opts is complete. */
aiinfra_status aii_memory_consolidate(aiinfra_memory *memory, const aiinfra_consolidate_opts *opts, aii_buf *json,
                                      aiinfra_error *err);

/* The sentences of a text that say most of it, in their order, at most max bytes. */
aiinfra_status aii_extract(aii_mem *mem, const char *text, size_t n, size_t max, aii_buf *out, aiinfra_error *err);
/* opts is complete. */
aiinfra_status aii_memory_summarise(aiinfra_memory *memory, const char *conversation,
                                    const aiinfra_summarise_opts *opts, uint64_t *n, aiinfra_error *err);
aiinfra_status aii_memory_add_summary(aiinfra_memory *memory, const char *conversation, int64_t first, int64_t last,
                                      const char *text, aiinfra_error *err);
aiinfra_status aii_memory_summaries(aiinfra_memory *memory, const char *conversation, aii_buf *json,
                                    aiinfra_error *err);

/* ---- blocks (blocks.c) --------------------------------------------------------------------------------------------- */

enum { AII_BLOCK_BYTES = 16384 };
aiinfra_status aii_memory_define_block(aiinfra_memory *memory, const char *label, const aiinfra_block_opts *opts,
                                       aiinfra_error *err);
aiinfra_status aii_memory_edit_block(aiinfra_memory *memory, const char *label, const aiinfra_block_edit *edit,
                                     aii_buf *text, aiinfra_error *err);
aiinfra_status aii_memory_list_blocks(aiinfra_memory *memory, aii_buf *json, aiinfra_error *err);

/* ---- messages and blocks (page.c) ------------------------------------------------------------------------------ */

/* EINVAL: no JSON object with a role. */
aiinfra_status aii_message_check(const char *message, aiinfra_error *err);
aiinfra_status aii_memory_append(aiinfra_memory *memory, const char *conversation, const char *message,
                                 aiinfra_error *err);
/* The last messages as a JSON array; one that answers a tool call is never the first. */
aiinfra_status aii_memory_history(aiinfra_memory *memory, const char *conversation, uint32_t last, aii_buf *json,
                                  aiinfra_error *err);
aiinfra_status aii_memory_set_block(aiinfra_memory *memory, const char *label, const char *text, aiinfra_error *err);
aiinfra_status aii_memory_blocks(aiinfra_memory *memory, aii_buf *json, aiinfra_error *err);

#endif
