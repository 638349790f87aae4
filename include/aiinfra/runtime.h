/* aiinfra/runtime.h - the root object: event loop, compute threads, allocator, logger, metrics.
 *
 * Everything else is created from a runtime and keeps it alive. The host gives its libuv loop, or NULL; then the
 * runtime makes one, and the host calls aiinfra_runtime_run() or aiinfra_request_wait(). The library starts no loop
 * thread. Compute runs on threads of the runtime's pool, which sleep when there is nothing to do.
 */
#ifndef AIINFRA_RUNTIME_H
#define AIINFRA_RUNTIME_H

#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

struct uv_loop_s;

/** The root object. */
typedef struct aiinfra_runtime aiinfra_runtime;

/** Instruction sets of the CPU kernels. */
typedef enum aiinfra_isa {
  AIINFRA_ISA_DEFAULT = 0,  /**< the best that this CPU has */
  AIINFRA_ISA_REF = 1,      /**< portable C, the definition of right */
  AIINFRA_ISA_AVX2 = 2,     /**< AVX2, FMA and F16C */
  AIINFRA_ISA_AVX512 = 3,   /**< AVX-512 F, BW, VL, DQ and VNNI */
  AIINFRA_ISA_AVXVNNI = 4,  /**< AVX-VNNI besides AVX2: clients without AVX-512 */
  AIINFRA_ISA_AMX = 5       /**< AMX-INT8 besides AVX-512; the process asks Linux for its registers */
} aiinfra_isa;

/** Where models compute. */
typedef enum aiinfra_device {
  AIINFRA_DEVICE_DEFAULT = 0, /**< the CPU */
  AIINFRA_DEVICE_AUTO = 1,    /**< a GPU where there is one, else the CPU; aiinfra_runtime_describe() tells why */
  AIINFRA_DEVICE_CPU = 2,     /**< the CPU */
  AIINFRA_DEVICE_CUDA = 3     /**< a GPU of NVIDIA, through libaiinfra-cuda.so; without one ENOTSUP */
} aiinfra_device;

/** How processes that compute one model together reach each other. */
typedef enum aiinfra_ranks {
  AIINFRA_RANKS_NONE = 0, /**< this process computes alone */
  AIINFRA_RANKS_MPI = 1   /**< MPI, through libaiinfra-mpi.so: the processes that mpirun started */
} aiinfra_ranks;

/** Options of a runtime. Zero is the default of every field. */
typedef struct aiinfra_runtime_opts {
  size_t struct_size;                 /**< sizeof this struct; set by AIINFRA_RUNTIME_OPTS_INIT */
  struct uv_loop_s *uv_loop;          /**< the host's loop, not owned, must outlive the runtime; NULL: our own */
  const aiinfra_allocator *allocator; /**< copied; NULL: malloc */
  aiinfra_log_fn log;                 /**< NULL: silent */
  void *log_user;                     /**< handed to log */
  uint64_t memory_limit_bytes;        /**< of all our allocations; beyond it AIINFRA_ENOMEM; 0: none */
  int32_t log_level;                  /**< an aiinfra_log_level; 0: AIINFRA_LOG_WARN */
  int32_t n_threads;                  /**< compute threads; 0: one for each core this process may use, the most that compute */
  int32_t isa;                        /**< an aiinfra_isa, to force a lesser one; one the CPU lacks is ENOTSUP */
  int32_t pin_threads;                /**< bind each compute thread to a core: 0: default (off), 1: on, -1: off */
  int32_t device;                     /**< an aiinfra_device: where all models of this runtime compute */
  int32_t device_index;               /**< which GPU, as CUDA counts those that this process sees; of ranks, which the
                                           first of a machine takes, the others the next ones */
  const char *cuda_path;              /**< absolute path of the plug-in; NULL: libaiinfra-cuda.so beside this library */
  const char *ranks_path;             /**< the same for ranks; NULL: libaiinfra-mpi.so beside this library */
  int32_t ranks;                      /**< an aiinfra_ranks: each rank has a part of every model of this runtime */
  int32_t reserved;                   /**< 0 */
} aiinfra_runtime_opts;

/** Initialiser of aiinfra_runtime_opts. */
#define AIINFRA_RUNTIME_OPTS_INIT {sizeof(aiinfra_runtime_opts), NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, 0}

/**
 * Creates a runtime. The calling thread becomes the loop's thread.
 *
 * On success the caller owns *out; release it with aiinfra_runtime_free() or aiinfra_runtime_close(). On failure
 * *out is NULL and nothing is held.
 *
 * @return AIINFRA_EINVAL   out is NULL or an option is out of range
 *         AIINFRA_ENOTSUP  the CPU lacks the demanded instruction set, there is no GPU where one was demanded, or an
 *                          option is newer than this library
 *         AIINFRA_ENOMEM   memory ran out
 * Thread: any (it becomes the loop thread).  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_runtime_create(const aiinfra_runtime_opts *opts,
                                                                   aiinfra_runtime **out, aiinfra_error *err);

/**
 * Which of the processes this is that compute together, from 0, and how many there are. Alone: 0 and 1.
 *
 * Rank 0 uses its models like any others. Every other rank opens the same models with the same options, one at a time,
 * and calls aiinfra_model_follow() on each.
 *
 * @return AIINFRA_EINVAL
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_runtime_rank(const aiinfra_runtime *runtime, uint32_t *rank,
                                                                 uint32_t *n_ranks, aiinfra_error *err);

/**
 * Runs the loop until nothing is left to do or aiinfra_runtime_stop() is called.
 * @return AIINFRA_OK, or AIINFRA_EINVAL when called from a callback of the loop
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API aiinfra_status aiinfra_runtime_run(aiinfra_runtime *runtime, aiinfra_error *err);

/**
 * Makes aiinfra_runtime_run() return soon. Objects and requests stay as they are.
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API void aiinfra_runtime_stop(aiinfra_runtime *runtime);

/**
 * Gives up the caller's reference. The runtime ends when the last object made from it has been freed and the last
 * request has ended; `closed` then runs as its last callback. With the host's loop this takes some turns of it.
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API void aiinfra_runtime_close(aiinfra_runtime *runtime, aiinfra_close_cb closed, void *user);

/**
 * Closes without a callback. When the runtime owns its loop, this runs the loop until what is in flight has ended;
 * objects still held keep the runtime until they are freed too. With the host's loop the rest happens as that loop
 * turns. NULL is allowed.
 * Thread: loop, not from a callback.  Since: 0.1.
 */
AIINFRA_API void aiinfra_runtime_free(aiinfra_runtime *runtime);

/**
 * What this runtime is and has, as a JSON object: version, isa, n_threads, devices, bytes in use; no_cuda tells
 * why there is no GPU where one was looked for.
 * @return AIINFRA_EINVAL, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_runtime_describe(const aiinfra_runtime *runtime, char **out_json,
                                                                     aiinfra_error *err);

/**
 * All metrics of the runtime in the Prometheus text format, version 0.0.4.
 * @return AIINFRA_EINVAL, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_runtime_metrics(const aiinfra_runtime *runtime, char **out_text,
                                                                    aiinfra_error *err);

#ifdef __cplusplus
}
#endif
#endif
