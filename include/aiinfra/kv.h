/* aiinfra/kv.h - the paged KV cache: the memory a running sequence stands on.
 *
 * A cache reserves a fixed number of equal blocks on one device. Sequences borrow blocks, share them
 * by common prefix, and give them back. Nothing grows after aiinfra_kv_create(): running out is a
 * scheduling event for the batcher, not a failure.
 *
 * Threads: a cache belongs to the loop thread of its model's runtime. Functions that take a const
 * handle may be called from any thread.
 */
#ifndef AIINFRA_KV_H
#define AIINFRA_KV_H

#include "aiinfra/model.h"
#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A paged KV cache. */
typedef struct aiinfra_kv aiinfra_kv;

/** Options of aiinfra_kv_create(). Zero is the default of every field. */
typedef struct aiinfra_kv_opts {
  size_t struct_size;    /**< sizeof this struct; set by AIINFRA_KV_OPTS_INIT */
  uint64_t budget_bytes; /**< 0: room for 4 sequences of the model's full context, at most a quarter of free memory */
  uint32_t block_tokens; /**< 0: 16; else a power of two, at most 256 */
  int32_t dtype;         /**< AIINFRA_DTYPE_F32, _F16 or _Q8_0; 0: F32 for an F32 model, else F16 */
  uint64_t spill_bytes;  /**< second tier: room for evicted blocks, which come back when their prefix is asked for again
                              instead of being computed again; 0: none */
  const char *spill_dir; /**< a folder: the second tier is a file there, without a name, which ends with the cache;
                              NULL: it is host memory, of a GPU pinned */
} aiinfra_kv_opts;

/** Initialiser of aiinfra_kv_opts. */
#define AIINFRA_KV_OPTS_INIT                  \
  {                                           \
    sizeof(aiinfra_kv_opts), 0, 0, 0, 0, NULL \
  }

/** How a cache is used now. */
typedef struct aiinfra_kv_stats {
  size_t struct_size;      /**< sizeof this struct; set by the caller */
  uint64_t block_bytes;    /**< size of a block over all layers */
  uint64_t prefix_queries; /**< prompt tokens looked up in the prefix tree */
  uint64_t prefix_hits;    /**< prompt tokens found there */
  uint64_t evictions;      /**< cached blocks given to somebody else */
  uint64_t copies;         /**< blocks copied because a sequence wrote to a shared one */
  uint32_t n_blocks;       /**< blocks in all */
  uint32_t n_free;         /**< neither used nor cached */
  uint32_t n_cached;       /**< used by no sequence, kept for a later one with the same prefix */
  uint32_t block_tokens;   /**< tokens a block holds */
  uint64_t spills;         /**< evicted blocks that went to the second tier */
  uint64_t fetches;        /**< blocks that came back from there */
  uint32_t n_slots;        /**< blocks that the second tier has room for */
  uint32_t n_spilled;      /**< blocks that are there now */
} aiinfra_kv_stats;

/**
 * Creates a cache for @model and reserves all of its blocks.
 *
 * On success the caller owns *out; release it with aiinfra_kv_free(). The cache keeps @model alive.
 * On failure *out is NULL and nothing is held.
 *
 * Q8_0 takes about half the memory of F16; it wants keys and values of a multiple of 32 elements.
 *
 * @return AIINFRA_EINVAL   block_tokens is not a power of two up to 256, the budget or spill_bytes holds no block, or dtype
 *                          does not fit the model
 *         AIINFRA_ENOTSUP  @opts sets a field this library does not know, the model is vocab_only, or spill_bytes is set
 *                          and the model is split over ranks
 *         AIINFRA_ENOMEM   host or device memory ran out
 *         AIINFRA_EIO, AIINFRA_ENOSPC, AIINFRA_ENOENT  the file of the second tier
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_kv_create(aiinfra_model *model, const aiinfra_kv_opts *opts,
                                                              aiinfra_kv **out, aiinfra_error *err);

/**
 * Releases the caller's reference; batchers keep the cache alive. NULL is allowed.
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API void aiinfra_kv_free(aiinfra_kv *kv);

/**
 * Fills *stats, whose struct_size the caller has set.
 * @return AIINFRA_EINVAL, AIINFRA_ENOTSUP
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API aiinfra_status aiinfra_kv_get_stats(const aiinfra_kv *kv, aiinfra_kv_stats *stats, aiinfra_error *err);

/**
 * Writes all prefixes that the cache knows, second tier included, to a file, for aiinfra_kv_load(). The file is replaced
 * at once, or stays as it was. Blocks until the step that runs has ended and the bytes are on the disk; reads all
 * weights of the model, to tell it from others.
 *
 * The file holds what prompts were about: only its owner may read and write it.
 *
 * @return AIINFRA_EBUSY    the step that runs brings blocks from or to the second tier: try again
 *         AIINFRA_ENOTSUP  the model is split over ranks
 *         AIINFRA_ENOMEM, AIINFRA_EIO, AIINFRA_ENOSPC, AIINFRA_ENOENT
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_kv_save(aiinfra_kv *kv, const char *path, aiinfra_error *err);

/**
 * Reads what aiinfra_kv_save() wrote into a cache that nobody has used: prompts that begin as before are found, to the bit
 * as if they had been computed here. Where the file holds more than the cache and its second tier, the most recently
 * used is taken. On failure the cache is as good as new.
 *
 * @return AIINFRA_EFORMAT  the file is damaged, or of another model, device, type of cache or size of blocks
 *         AIINFRA_EBUSY    the cache was used already
 *         AIINFRA_ENOTSUP  the model is split over ranks
 *         AIINFRA_ENOENT, AIINFRA_EIO
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_kv_load(aiinfra_kv *kv, const char *path, aiinfra_error *err);

#ifdef __cplusplus
}
#endif
#endif
