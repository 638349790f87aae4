/* aiinfra/memory.h - what an agent knows: documents, facts, conversations, and a page for what matters now.
 *
 * Three kinds of memory. Semantic: facts and passages of ingested documents, found by recall. Episodic: every message
 * of every conversation, in order. Working: a few labelled blocks that are always in the prompt. All in one database,
 * below a scope: no read crosses scopes. Writing needs no model: texts are embedded by hashed word and character
 * n-grams, and searched by that vector and by keywords together.
 *
 * A fact has two times. It holds in the world from valid_from_ms to valid_to_ms, and it was believed from when it was
 * remembered until it was revised. Nothing but forgetting and expiry removes a version of a fact, so that any past state
 * can be asked for.
 */
#ifndef AIINFRA_MEMORY_H
#define AIINFRA_MEMORY_H

#include "aiinfra/db.h"
#include "aiinfra/model.h"
#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The memory of one scope. */
typedef struct aiinfra_memory aiinfra_memory;

/** Options of aiinfra_memory_open(). Zero is the default of every field. */
typedef struct aiinfra_memory_opts {
  size_t struct_size;  /**< sizeof this struct; set by AIINFRA_MEMORY_OPTS_INIT */
  const char *scope;   /**< whose memory, e.g. "user:ann"; NULL: "default" */
  const char *tenant;  /**< the five names together are the scope; each NULL or at most 256 bytes */
  const char *user;    /**< one whose memory it is */
  const char *agent;   /**< the agent that remembers */
  const char *session; /**< the conversation or task */
} aiinfra_memory_opts;

/** Initialiser of aiinfra_memory_opts. */
#define AIINFRA_MEMORY_OPTS_INIT                              \
  {                                                           \
    sizeof(aiinfra_memory_opts), NULL, NULL, NULL, NULL, NULL \
  }

/** What kind of memory a row is. */
typedef enum aiinfra_memory_kind {
  AIINFRA_MEMORY_ANY = 0,    /**< in queries: facts and passages */
  AIINFRA_MEMORY_FACT = 1,   /**< a statement worth keeping */
  AIINFRA_MEMORY_PASSAGE = 2 /**< a piece of an ingested document */
} aiinfra_memory_kind;

/** How recall looks for items. */
typedef enum aiinfra_recall_mode {
  AIINFRA_RECALL_BOTH = 0,  /**< by vector and by words, their ranks fused */
  AIINFRA_RECALL_WORDS = 1, /**< items that have words of the question */
  AIINFRA_RECALL_VECTOR = 2 /**< by vector alone */
} aiinfra_recall_mode;

/**
 * A question to the memory. Zero is the default of every field.
 *
 * A filter, in the language of aiinfra_query, sees of each item what recall tells of it but its id, text and scores:
 *   {"kind", "importance", "trust", "reinforced", "source", "first_byte", "n_bytes", "created_ms", "valid_from_ms",
 *    "valid_to_ms", "metadata"}
 * for example {"source": "notes.md"} or {"metadata.lang": "en"}; has_id takes the items' ids. It chooses among the items
 * that are found without it, and changes no score. As many are looked at as it takes to find k that pass.
 */
typedef struct aiinfra_recall_opts {
  size_t struct_size;      /**< sizeof this struct; set by AIINFRA_RECALL_OPTS_INIT */
  uint32_t k;              /**< items wanted; 0: 5 */
  int32_t kind;            /**< an aiinfra_memory_kind; 0: any */
  uint32_t max_bytes;      /**< bound on the texts' total length; 0: none */
  float min_score;         /**< drop items below this score; 0: none */
  int64_t as_of_ms;        /**< what held then, milliseconds since 1970; 0: what holds now */
  int64_t known_at_ms;     /**< as it was believed then; 0: as it is believed now */
  float recency;           /**< what age takes from a fact's score; 0: 0.1; negative: nothing */
  float importance;        /**< what its importance adds or takes; 0: 0.2; negative: nothing */
  float reinforcement;     /**< what its repetition adds; 0: 0.1; negative: nothing */
  float half_life_days;    /**< after which half of the recency is gone; 0: 30 */
  const char *filter_json; /**< items must pass, see above; NULL: all */
  char **explain;          /**< receives how the question was answered, as JSON, freed with aiinfra_string_free(); NULL
                              on failure; may be NULL */
  int32_t mode;            /**< an aiinfra_recall_mode */
  uint32_t reserved;       /**< must be 0 */
} aiinfra_recall_opts;

/** Initialiser of aiinfra_recall_opts. */
#define AIINFRA_RECALL_OPTS_INIT                                                               \
  {                                                                                            \
    sizeof(aiinfra_recall_opts), 0, 0, 0, 0.0f, 0, 0, 0.0f, 0.0f, 0.0f, 0.0f, NULL, NULL, 0, 0 \
  }

/** What is known of a fact besides its text. Zero is the default of every field. */
typedef struct aiinfra_fact_opts {
  size_t struct_size;        /**< sizeof this struct; set by AIINFRA_FACT_OPTS_INIT */
  const char *metadata_json; /**< a JSON object that is kept with it; may be NULL */
  const char *source;        /**< who said so; at most 1024 bytes; NULL: not known */
  int64_t valid_from_ms;     /**< when it began to hold, milliseconds since 1970; 0: when it is remembered */
  int64_t valid_to_ms;       /**< when it ceases to hold; 0: open */
  int64_t ttl_ms;            /**< after which it is forgotten; 0: never */
  float importance;          /**< up to 1; 0: 0.5 */
  float trust;               /**< up to 1, a factor of its score; 0: 1 */
  int32_t keep_near;         /**< 1: a new fact also when one says the same in other words */
  uint32_t reserved;         /**< must be 0 */
} aiinfra_fact_opts;

/** Initialiser of aiinfra_fact_opts. */
#define AIINFRA_FACT_OPTS_INIT                                       \
  {                                                                  \
    sizeof(aiinfra_fact_opts), NULL, NULL, 0, 0, 0, 0.0f, 0.0f, 0, 0 \
  }

/** Which facts to list. Zero is the default of every field. */
typedef struct aiinfra_facts_opts {
  size_t struct_size;  /**< sizeof this struct; set by AIINFRA_FACTS_OPTS_INIT */
  int64_t as_of_ms;    /**< what held then; 0: what holds now */
  int64_t known_at_ms; /**< as it was believed then; 0: as it is believed now */
  int64_t after_id;    /**< only facts with a larger id: the next page */
  uint32_t limit;      /**< 0: 100 */
  int32_t all;         /**< 1: all versions, also what no longer holds; the times are not looked at */
} aiinfra_facts_opts;

/** Initialiser of aiinfra_facts_opts. */
#define AIINFRA_FACTS_OPTS_INIT               \
  {                                           \
    sizeof(aiinfra_facts_opts), 0, 0, 0, 0, 0 \
  }

/** A way to make vectors of texts, such as a model. The function is called on the thread of the call that needs it. */
typedef struct aiinfra_embedder {
  size_t struct_size; /**< sizeof this struct; set by AIINFRA_EMBEDDER_INIT */
  const char *name;   /**< at most 128 bytes; kept in the database: vectors of another way must have another name */
  /** Makes n vectors of dims floats, one behind the other; at most 32 texts a call. question: 1 for a question, 0 for
      what answers it, which some models embed in different ways. 0: done; else the call fails with AIINFRA_ECANCELED. */
  int (*embed)(void *user, const char *const *texts, size_t n, int question, float *vectors);
  void *user;        /**< handed to embed */
  uint32_t dims;     /**< elements of a vector, up to 16384 */
  uint32_t reserved; /**< must be 0 */
} aiinfra_embedder;

/** Initialiser of aiinfra_embedder. */
#define AIINFRA_EMBEDDER_INIT                            \
  {                                                      \
    sizeof(aiinfra_embedder), NULL, NULL, NULL, 0, 0 \
  }

/** What an ingestion did. */
typedef struct aiinfra_ingest_stats {
  size_t struct_size; /**< sizeof this struct; set by the caller */
  uint64_t files;     /**< files read */
  uint64_t unchanged; /**< of these, the same as last time */
  uint64_t skipped;   /**< files that are no text, too large or cannot be read */
  uint64_t passages;  /**< passages written */
  uint64_t removed;   /**< passages of older versions removed */
  uint64_t bytes;     /**< bytes read */
} aiinfra_ingest_stats;

/** How documents are cut into passages. */
typedef enum aiinfra_chunking {
  AIINFRA_CHUNK_STRUCTURE = 0, /**< whole paragraphs, code blocks, table rows, functions, below one heading */
  AIINFRA_CHUNK_SENTENCES = 1, /**< whole sentences, as many as fit */
  AIINFRA_CHUNK_TOKENS = 2     /**< as much as fits, between words */
} aiinfra_chunking;

/** What the size of a passage is counted in. */
typedef enum aiinfra_chunk_unit {
  AIINFRA_UNIT_DEFAULT = 0, /**< tokens when there is a model, else bytes */
  AIINFRA_UNIT_BYTES = 1,   /**< bytes of UTF-8 */
  AIINFRA_UNIT_WORDS = 2    /**< runs of characters between white space */
} aiinfra_chunk_unit;

/** Options of aiinfra_memory_ingest_files(). Zero is the default of every field. */
typedef struct aiinfra_ingest_opts {
  size_t struct_size;           /**< sizeof this struct; set by AIINFRA_INGEST_OPTS_INIT */
  aiinfra_progress_fn progress; /**< called on the calling thread; may cancel, what was done stays; NULL: none */
  void *progress_user;          /**< handed to progress */
  const aiinfra_model *model;   /**< sizes are counted in its tokens; NULL: see unit */
  int32_t chunking;             /**< an aiinfra_chunking */
  int32_t unit;                 /**< an aiinfra_chunk_unit */
  uint32_t size;                /**< of a passage at most; 0: 600 bytes, 100 words or 128 tokens; else up to 65536 */
  uint32_t overlap;             /**< what a passage repeats of the one before it at most; at most half of size */
  int32_t keep_missing;         /**< 1: passages of files that are gone stay */
  uint32_t reserved;            /**< must be 0 */
} aiinfra_ingest_opts;

/** Initialiser of aiinfra_ingest_opts. */
#define AIINFRA_INGEST_OPTS_INIT                                   \
  {                                                                \
    sizeof(aiinfra_ingest_opts), NULL, NULL, NULL, 0, 0, 0, 0, 0, 0 \
  }

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
 * Keeps a fact. The same text again (but for case and white space), or the same in other words, only reinforces it and
 * gives its old id. See aiinfra_memory_add_fact().
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
 * Reads files and folders with the defaults of aiinfra_ingest_opts: aiinfra_memory_ingest_files() with other results.
 *
 * @param paths     n_paths paths
 * @param progress  called on the calling thread; may cancel, what was done stays; NULL: none
 * @param stats     receives what was done; may be NULL
 * @return as aiinfra_memory_ingest_files()
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_ingest(aiinfra_memory *memory, const char *const *paths,
                                                                  size_t n_paths, aiinfra_progress_fn progress,
                                                                  void *progress_user, aiinfra_ingest_stats *stats,
                                                                  aiinfra_error *err);

/**
 * Reads files and folders (recursively; hidden ones are left out), cuts them into passages, and keeps these. Text,
 * Markdown, HTML, JSON, CSV, source code, and PDF where the program pdftotext is installed. A file's source is its real
 * path, relative to the current folder when it lies below it.
 *
 * A file that has not changed is left as it is. Of a changed one, passages whose text and headings are as before keep
 * their ids; only the others are embedded. A file that has another name now keeps its passages. Passages of files below
 * the paths that are gone are removed; a path of which only such passages are left is no error. What cannot be read, or
 * is no text, is told in the report and stops nothing; passages that it had stay.
 *
 * @param opts         may be NULL
 * @param report_json  receives {"files": read, "unchanged", "skipped", "passages": written, "kept": passages of changed
 *                     files that stayed, "removed": passages, "renamed": files, "gone": files, "bytes",
 *                     "problems": [{"path", "why"}] of which 1000 are told, "n_problems"}, also when it was cancelled; may be
 *                     NULL
 * @return AIINFRA_ENOENT     a path does not exist; nothing was written
 *         AIINFRA_ECANCELED  progress asked for it
 *         AIINFRA_EINVAL, AIINFRA_ENOTSUP, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_ingest_files(aiinfra_memory *memory,
                                                                        const char *const *paths, size_t n_paths,
                                                                        const aiinfra_ingest_opts *opts,
                                                                        char **report_json, aiinfra_error *err);

/**
 * Recalls what fits a question best.
 *
 * The score is the fused rank of both searches, 1 for what is first in both, or by the rank in the one that mode asks
 * for; for facts times their trust, and times 1 + recency * (recency of the fact - 1) + importance * (2 * its
 * importance - 1) + reinforcement * (0 to 1 for repetition), by the weights of the options.
 *
 * @param out_json  an array, best first: [{"id", "kind": "fact" | "passage", "text", "score", "vector_score",
 *                  "text_score", "recency", "importance", "trust", "reinforced", "source": path or who said so,
 *                  "first_byte", "n_bytes", "created_ms", "valid_from_ms", "valid_to_ms", "metadata"}]
 * @return AIINFRA_EINVAL  a bad question or option; of a bad filter the message names the path
 *         AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_recall(aiinfra_memory *memory, const char *question,
                                                                  const aiinfra_recall_opts *opts, char **out_json,
                                                                  aiinfra_error *err);

/**
 * Moves all items of the scope to another embedder. Its vectors are made in batches beside those that are there, which
 * serve all searches until the last item is done; then it takes their place, in one step. A move that was cancelled, or
 * killed, goes on when it is called again. Afterwards this handle has the embedder; others that have none find by the
 * vectors that need no model, which every item keeps.
 *
 * @param embedder     copied; NULL: back to vectors that need no model
 * @param progress     called before each batch; may cancel; NULL: none
 * @param report_json  receives {"embedder": name or null, "items", "embedded": by this call}; may be NULL
 * @return AIINFRA_ECANCELED  progress asked for it, or the embedder failed
 *         AIINFRA_EINVAL     a bad embedder, one whose name was used with other dims, or vectors that are no numbers
 *         AIINFRA_ENOTSUP, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_migrate(aiinfra_memory *memory,
                                                                   const aiinfra_embedder *embedder,
                                                                   aiinfra_progress_fn progress, void *progress_user,
                                                                   char **report_json, aiinfra_error *err);

/**
 * Gives this handle the embedder that the scope was moved to: its searches use it, and what was written meanwhile is
 * embedded by the next of them. It may be used until another one is given, or the handle is released.
 *
 * @param embedder  copied; NULL: none
 * @return AIINFRA_ENOENT  the scope was not moved to an embedder of that name
 *         AIINFRA_EINVAL, AIINFRA_ENOTSUP, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_use_embedder(aiinfra_memory *memory,
                                                                        const aiinfra_embedder *embedder,
                                                                        aiinfra_error *err);

/**
 * Scores n texts by how well they answer a question; higher is better. Called on the thread that packs.
 * A program with a batcher of a reranker calls aiinfra_batcher_rerank() and waits.
 * @return 0; anything else makes the call fail with AIINFRA_ECANCELED
 */
typedef int (*aiinfra_rerank_fn)(void *user, const char *question, const char *const *texts, size_t n, float *scores);

/** Options of aiinfra_memory_pack(). Zero is the default of every field. */
typedef struct aiinfra_pack_opts {
  size_t struct_size;                /**< sizeof this struct; set by AIINFRA_PACK_OPTS_INIT */
  const aiinfra_recall_opts *recall; /**< what to recall; its k of 0 is 20 here; NULL: all defaults */
  const aiinfra_model *model;        /**< whose tokens are counted; NULL: four bytes are a token */
  aiinfra_rerank_fn rerank;          /**< scores what was found anew, which orders it; NULL: as recall scores it */
  void *rerank_user;                 /**< handed to rerank */
  uint32_t budget_tokens;            /**< of the whole text at most; 0: 1024 */
  uint32_t reserved;                 /**< must be 0 */
} aiinfra_pack_opts;

/** Initialiser of aiinfra_pack_opts. */
#define AIINFRA_PACK_OPTS_INIT                                   \
  {                                                              \
    sizeof(aiinfra_pack_opts), NULL, NULL, NULL, NULL, 0, 0      \
  }

/**
 * Recalls what fits a question and packs it into one text for a prompt: best first, as many items as fit the budget,
 * each under a number in brackets with its source. Passages that follow each other in their document stand together; what
 * says the same as something before it is left out. When not even the first item fits, it is cut.
 *
 * @param out_json  {"text", "tokens", "sources": [{"n": the number in the text, "kind", "ids": items, "score", "cut": whether
 *                  it was, "document": path or who said so, "begin", "end": bytes of the document, of passages,
 *                  "headings"}], "same": items left out because they say the same, "left_out": because they do not fit}
 * @return AIINFRA_EINVAL     a bad question or option
 *         AIINFRA_ECANCELED  the reranker failed
 *         AIINFRA_ENOTSUP, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_pack(aiinfra_memory *memory, const char *question,
                                                                const aiinfra_pack_opts *opts, char **out_json,
                                                                aiinfra_error *err);

/**
 * Forgets an item for good, a fact with all of its versions: no byte of their texts stays in the database file.
 * @return AIINFRA_ENOENT  no such item in this scope
 *         AIINFRA_EBUSY   another process held the database; or it is forgotten, but a reader in another process still
 *                         keeps bytes of it in the log beside the file: the message tells, any later write clears it
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_ENOMEM
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
                                                                   uint32_t last, char **out_json, aiinfra_error *err);

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

/** What a block may hold. Zero is the default of every field. */
typedef struct aiinfra_block_opts {
  size_t struct_size;      /**< sizeof this struct; set by AIINFRA_BLOCK_OPTS_INIT */
  const char *description; /**< what belongs into it, for the model; at most 1024 bytes; NULL: as it is */
  uint32_t limit_bytes;    /**< of its text, at most 16384; 0: as it is, 16384 for a new one */
  int32_t read_only;       /**< 1: the agent must not edit it, -1: it may; 0: as it is, editable when new */
} aiinfra_block_opts;

/** Initialiser of aiinfra_block_opts. */
#define AIINFRA_BLOCK_OPTS_INIT            \
  {                                        \
    sizeof(aiinfra_block_opts), NULL, 0, 0 \
  }

/** A change of a block's text. Zero is the default of every field but the text. */
typedef struct aiinfra_block_edit {
  size_t struct_size; /**< sizeof this struct; set by AIINFRA_BLOCK_EDIT_INIT */
  const char *text;   /**< a new last line; or what takes the place of `find`, where "" removes it */
  const char *find;   /**< a piece that the block has exactly once; NULL: none */
  int32_t by_agent;   /**< 1: a block that is read-only refuses */
  int32_t reserved;   /**< 0 */
} aiinfra_block_edit;

/** Initialiser of aiinfra_block_edit. */
#define AIINFRA_BLOCK_EDIT_INIT                  \
  {                                              \
    sizeof(aiinfra_block_edit), NULL, NULL, 0, 0 \
  }

/**
 * Makes an empty block, or changes what a block may hold.
 * @return AIINFRA_ELIMIT  its text is longer than the limit; the message tells both
 *         AIINFRA_EINVAL, AIINFRA_ENOTSUP, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_define_block(aiinfra_memory *memory, const char *label,
                                                                        const aiinfra_block_opts *opts,
                                                                        aiinfra_error *err);

/**
 * Changes a part of a block's text. Messages of failures are written for the model that edits.
 * @param out_text  receives the whole text; may be NULL
 * @return AIINFRA_ENOENT  no such block
 *         AIINFRA_ELIMIT  the text would be longer than the limit
 *         AIINFRA_EINVAL  `find` is not there exactly once, or the block is read-only
 *         AIINFRA_ENOTSUP, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_edit_block(aiinfra_memory *memory, const char *label,
                                                                      const aiinfra_block_edit *edit, char **out_text,
                                                                      aiinfra_error *err);

/**
 * The blocks with all that is known of them, in the order of their labels.
 * @param out_json  [{"label", "text", "description", "bytes", "limit_bytes", "read_only", "updated_ms"}]
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_list_blocks(aiinfra_memory *memory, char **out_json,
                                                                       aiinfra_error *err);

/* ---- facts in time ------------------------------------------------------------------------------------------------ */

/**
 * Keeps a fact. A current one with the same text (but for case and white space: "same"), or the same in other words
 * ("near": contractions, punctuation, words of the same function; never another negation, number, name or order) is
 * reinforced instead, unless the interval given differs.
 *
 * @param opts      may be NULL
 * @param out_json  {"id": 7, "outcome": "new" | "same" | "near"}; may be NULL
 * @return AIINFRA_EINVAL  a bad text or option, valid_to_ms not after valid_from_ms
 *         AIINFRA_ENOTSUP, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_add_fact(aiinfra_memory *memory, const char *text,
                                                                    const aiinfra_fact_opts *opts, char **out_json,
                                                                    aiinfra_error *err);

/**
 * Corrects a fact that was wrong: from now on the new text is believed, for the interval of the old one. The old version
 * is kept for questions about what was believed.
 *
 * @param id      a fact that was neither revised nor superseded
 * @param opts    what is not set is as the old version has it; may be NULL
 * @param new_id  receives the new version's id; may be NULL
 * @return AIINFRA_ENOENT  no such fact in this scope
 *         AIINFRA_EEXIST  it was revised or superseded already; the message names what took its place
 *         AIINFRA_EINVAL, AIINFRA_ENOTSUP, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_revise(aiinfra_memory *memory, int64_t id, const char *text,
                                                                  const aiinfra_fact_opts *opts, int64_t *new_id,
                                                                  aiinfra_error *err);

/**
 * Tells that the world has changed: a fact ceased to hold at opts->valid_from_ms (0: now), and the new text holds since.
 * The old version is kept for questions about the time before.
 *
 * @param id      a fact that was neither revised nor superseded
 * @param text    NULL: nothing takes its place
 * @param opts    as for aiinfra_memory_revise()
 * @param new_id  receives the new version's id, 0 without a text; may be NULL
 * @return AIINFRA_ENOENT  no such fact in this scope
 *         AIINFRA_EEXIST  it was revised or superseded already; the message names what took its place
 *         AIINFRA_EINVAL  also when it would cease to hold before it began
 *         AIINFRA_ENOTSUP, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_supersede(aiinfra_memory *memory, int64_t id,
                                                                     const char *text, const aiinfra_fact_opts *opts,
                                                                     int64_t *new_id, aiinfra_error *err);

/**
 * Tells that a fact was of use, or was said again: its score rises. Recalling alone reinforces nothing.
 * @return AIINFRA_ENOENT  no such fact in this scope
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_reinforce(aiinfra_memory *memory, int64_t id,
                                                                     aiinfra_error *err);

/**
 * Removes the facts whose time to live is over, for good. No read shows them even before that.
 * @param n  receives how many; may be NULL
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_expire(aiinfra_memory *memory, uint64_t *n,
                                                                  aiinfra_error *err);

/**
 * All versions of a fact, oldest first, by the id of any of them.
 * @param out_json  [{"id", "text", "state": "current" | "revised" | "ended" | "expired", "recorded_ms", "retired_ms",
 *                  "valid_from_ms", "valid_to_ms", "ended_at_ms", "expires_ms", "previous", "source", "trust",
 *                  "importance", "reinforced", "metadata"}], null where there is nothing
 * @return AIINFRA_ENOENT  no such fact in this scope; the message tells when it was forgotten
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_fact_history(aiinfra_memory *memory, int64_t id,
                                                                        char **out_json, aiinfra_error *err);

/**
 * Facts in the order of their ids.
 * @param opts      may be NULL
 * @param out_json  as of aiinfra_memory_fact_history()
 * @return AIINFRA_EINVAL, AIINFRA_ENOTSUP, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_facts(aiinfra_memory *memory, const aiinfra_facts_opts *opts,
                                                                 char **out_json, aiinfra_error *err);

/* ---- care: what a memory does when nobody waits ------------------------------------------------------------------- */

/** How facts are brought together. Zero is the default of every field. */
typedef struct aiinfra_consolidate_opts {
  size_t struct_size;           /**< sizeof this struct; set by AIINFRA_CONSOLIDATE_OPTS_INIT */
  int64_t after_id;             /**< goes on behind this fact: "next" of the last call */
  uint32_t max_steps;           /**< facts that are looked at; 0: all that are left */
  uint32_t max_facts;           /**< that may be current: the weakest of more are retired; 0: any number */
  int32_t dry_run;              /**< 1: only tells what would be done */
  int32_t keep_contradictions;  /**< 1: contradictions are told, and both facts stay */
  aiinfra_progress_fn progress; /**< called between facts; may cancel, what was done stays; NULL: none */
  void *progress_user;          /**< handed to it */
} aiinfra_consolidate_opts;

/** Initialiser of aiinfra_consolidate_opts. */
#define AIINFRA_CONSOLIDATE_OPTS_INIT                           \
  {                                                             \
    sizeof(aiinfra_consolidate_opts), 0, 0, 0, 0, 0, NULL, NULL \
  }

/**
 * Brings the current facts together, without a model. What says the same in nearly the same words becomes one, which is
 * reinforced. A fact that contradicts an older one, by a negation or by another value of the same attribute ("Ann lives
 * in Rome", "my editor is vim"), supersedes it, if it is trusted as much; else both stay. Facts that are merged or
 * superseded become versions of one fact, and are kept for questions about the past. Each fact is a transaction of its
 * own, so that nothing is lost when it is stopped; doing it again does no harm.
 *
 * @param opts      may be NULL
 * @param out_json  {"looked_at", "merged", "superseded", "contradictions", "faded", "next": id of the last fact that
 *                  was looked at, "done": whether none is left, "changes": [{"what": "merged" | "superseded" |
 *                  "contradiction" | "faded", "id", "text", "by": id or null}]}, at most 1000 changes; may be NULL
 * @return AIINFRA_ECANCELED  progress asked for it; out_json is given all the same
 *         AIINFRA_EINVAL, AIINFRA_ENOTSUP, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_consolidate(aiinfra_memory *memory,
                                                                       const aiinfra_consolidate_opts *opts,
                                                                       char **out_json, aiinfra_error *err);

/** How a conversation is summarised. Zero is the default of every field. */
typedef struct aiinfra_summarise_opts {
  size_t struct_size; /**< sizeof this struct; set by AIINFRA_SUMMARISE_OPTS_INIT */
  uint32_t keep_last; /**< messages at the end that need no summary; 0: 12 */
  uint32_t chunk;     /**< messages of one summary; 0: 24 */
  uint32_t max_bytes; /**< of one summary, 64 to 16384; 0: 1024 */
  int32_t reserved;   /**< 0 */
} aiinfra_summarise_opts;

/** Initialiser of aiinfra_summarise_opts. */
#define AIINFRA_SUMMARISE_OPTS_INIT            \
  {                                            \
    sizeof(aiinfra_summarise_opts), 0, 0, 0, 0 \
  }

/**
 * Summarises what has no summary yet, without a model: the sentences that say most of what was said, in their order. A
 * summary is made of whole chunks, so that it never changes, and names its messages, which stay. Doing it again goes on.
 *
 * @param opts      may be NULL
 * @param n         receives how many summaries were made; may be NULL
 * @return AIINFRA_EINVAL, AIINFRA_ENOTSUP, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_summarise(aiinfra_memory *memory, const char *conversation,
                                                                     const aiinfra_summarise_opts *opts, uint64_t *n,
                                                                     aiinfra_error *err);

/**
 * Keeps a summary that somebody else made, such as a model; it takes the place of those in its range.
 * @param first_seq  the number of its first message, from 1
 * @param last_seq   and of its last one
 * @param text       1 to 65536 bytes
 * @return AIINFRA_ENOENT  the conversation has no such messages
 *         AIINFRA_EEXIST  it overlaps another summary by a part
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_add_summary(aiinfra_memory *memory, const char *conversation,
                                                                       int64_t first_seq, int64_t last_seq,
                                                                       const char *text, aiinfra_error *err);

/**
 * The summaries of a conversation, oldest first.
 * @param out_json  [{"first_seq", "last_seq", "text", "created_ms"}]
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_summaries(aiinfra_memory *memory, const char *conversation,
                                                                     char **out_json, aiinfra_error *err);

/* ---- the whole scope ------------------------------------------------------------------------------------------------ */

/**
 * Everything of the scope but documents, as JSON lines: facts in all versions, messages, blocks.
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_export(aiinfra_memory *memory, char **out_jsonl,
                                                                  aiinfra_error *err);

/**
 * Takes in what aiinfra_memory_export() gave, all of it or nothing. Facts get new ids. What is there already (a version
 * with the same text and times, a message with the same number) is left as it is, so that importing twice does no harm.
 *
 * @param jsonl    n_bytes bytes, at most 64 MiB
 * @param n_taken  receives how many lines brought something new; may be NULL
 * @return AIINFRA_EINVAL  a line is wrong; the message names it
 *         AIINFRA_ELIMIT, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_import(aiinfra_memory *memory, const char *jsonl,
                                                                  size_t n_bytes, uint64_t *n_taken,
                                                                  aiinfra_error *err);

/**
 * Forgets a conversation for good.
 * @return AIINFRA_ENOENT  the scope has no such conversation
 *         AIINFRA_EBUSY   as for aiinfra_memory_forget()
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_forget_conversation(aiinfra_memory *memory,
                                                                               const char *conversation,
                                                                               aiinfra_error *err);

/**
 * Forgets everything of the scope for good: facts, documents, conversations, blocks.
 * @return AIINFRA_EBUSY  as for aiinfra_memory_forget()
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_memory_forget_all(aiinfra_memory *memory, aiinfra_error *err);

#ifdef __cplusplus
}
#endif
#endif
