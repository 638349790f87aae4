/* aiinfra/memory.h - what an agent knows: documents, facts, conversations, and a page for what matters now.
 *
 * Three kinds of memory. Semantic: facts and passages of ingested documents, found by recall. Episodic: every message
 * of every conversation, in order. Working: a few labelled blocks that are always in the prompt. All in one database,
 * below a scope: no read crosses scopes. Writing needs no model: texts are embedded by hashed word and character
 * n-grams, and searched by that vector and by keywords together.
 */
#ifndef AIINFRA_MEMORY_H
#define AIINFRA_MEMORY_H

#include "aiinfra/db.h"
#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The memory of one scope. */
typedef struct aiinfra_memory aiinfra_memory;

/** Options of aiinfra_memory_open(). Zero is the default of every field. */
typedef struct aiinfra_memory_opts {
  size_t struct_size; /**< sizeof this struct; set by AIINFRA_MEMORY_OPTS_INIT */
  const char *scope;  /**< whose memory, e.g. "user:ann"; NULL: "default" */
} aiinfra_memory_opts;

/** Initialiser of aiinfra_memory_opts. */
#define AIINFRA_MEMORY_OPTS_INIT {sizeof(aiinfra_memory_opts), NULL}

/** What kind of memory a row is. */
typedef enum aiinfra_memory_kind {
  AIINFRA_MEMORY_ANY = 0,      /**< in queries: facts and passages */
  AIINFRA_MEMORY_FACT = 1,     /**< a statement worth keeping */
  AIINFRA_MEMORY_PASSAGE = 2   /**< a piece of an ingested document */
} aiinfra_memory_kind;

/** A question to the memory. Zero is the default of every field. */
typedef struct aiinfra_recall_opts {
  size_t struct_size; /**< sizeof this struct; set by AIINFRA_RECALL_OPTS_INIT */
  uint32_t k;         /**< items wanted; 0: 5 */
  int32_t kind;       /**< an aiinfra_memory_kind; 0: any */
  uint32_t max_bytes; /**< bound on the texts' total length; 0: none */
  float min_score;    /**< drop items below this score; 0: none */
} aiinfra_recall_opts;

/** Initialiser of aiinfra_recall_opts. */
#define AIINFRA_RECALL_OPTS_INIT {sizeof(aiinfra_recall_opts), 0, 0, 0, 0.0f}

/** What an ingestion did. */
typedef struct aiinfra_ingest_stats {
  size_t struct_size;   /**< sizeof this struct; set by the caller */
  uint64_t files;       /**< files read */
  uint64_t unchanged;   /**< of these, the same as last time */
  uint64_t skipped;     /**< files that are no text or too large */
  uint64_t passages;    /**< passages written */
  uint64_t removed;     /**< passages of older versions removed */
  uint64_t bytes;       /**< bytes read */
} aiinfra_ingest_stats;

/**
 * Opens the memory of a scope. On success the caller owns *out; it keeps @db alive. On failure *out is NULL.
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EFORMAT, AIINFRA_EBUSY, AIINFRA_ENOTSUP, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_open(aiinfra_db *db, const aiinfra_memory_opts *opts,
                                                                aiinfra_memory **out, aiinfra_error *err);

/**
 * Releases the handle. NULL is allowed.
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API void aiinfra_memory_free(aiinfra_memory *memory);

/**
 * Keeps a fact. The same text again (but for case and white space) only refreshes it and gives its old id.
 *
 * @param metadata_json  a JSON object that is kept with it; may be NULL
 * @param id             receives its id; may be NULL
 * @return AIINFRA_EINVAL  empty, longer than 64 KiB, or not UTF-8
 *         AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_remember(aiinfra_memory *memory, const char *text,
                                                                    const char *metadata_json, int64_t *id,
                                                                    aiinfra_error *err);

/**
 * Reads files and folders (recursively; hidden ones are left out), cuts them into passages along headings and
 * paragraphs, and keeps these. A file that has not changed is left as it is; a changed one replaces its passages. A
 * file's source is its real path, relative to the current folder when it lies below it.
 *
 * @param paths     n_paths paths
 * @param progress  called on the calling thread; may cancel, what was done stays; NULL: none
 * @param stats     receives what was done; may be NULL
 * @return AIINFRA_ENOENT     a path does not exist; nothing was written
 *         AIINFRA_ECANCELED  progress asked for it
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_ingest(aiinfra_memory *memory, const char *const *paths,
                                                                  size_t n_paths, aiinfra_progress_fn progress,
                                                                  void *progress_user, aiinfra_ingest_stats *stats,
                                                                  aiinfra_error *err);

/**
 * Recalls what fits a question best.
 *
 * @param out_json  an array, best first: [{"id", "kind": "fact" | "passage", "text", "score", "vector_score",
 *                  "text_score", "source": path, "first_byte", "n_bytes", "created_ms", "metadata"}]
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_recall(aiinfra_memory *memory, const char *question,
                                                                  const aiinfra_recall_opts *opts, char **out_json,
                                                                  aiinfra_error *err);

/**
 * Forgets an item for good.
 * @return AIINFRA_ENOENT  no such item in this scope
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_forget(aiinfra_memory *memory, int64_t id,
                                                                  aiinfra_error *err);

/**
 * Appends a message to a conversation.
 * @param message_json  an OpenAI chat message
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_append(aiinfra_memory *memory, const char *conversation,
                                                                  const char *message_json, aiinfra_error *err);

/**
 * The last messages of a conversation, oldest first, as a JSON array of OpenAI chat messages.
 * @param last  how many at most; 0: all
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_history(aiinfra_memory *memory, const char *conversation,
                                                                   uint32_t last, char **out_json,
                                                                   aiinfra_error *err);

/**
 * Sets a block of the working memory; NULL or "" removes it.
 * @return AIINFRA_EINVAL  a label or text that is too long (64 and 16384 bytes)
 *         AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_set_block(aiinfra_memory *memory, const char *label,
                                                                     const char *text, aiinfra_error *err);

/**
 * The blocks of the working memory as a JSON object, label to text.
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_blocks(aiinfra_memory *memory, char **out_json,
                                                                  aiinfra_error *err);

#ifdef __cplusplus
}
#endif
#endif
