/* src/backend/cuda_plugin.h - what libaiinfra and libaiinfra-cuda.so know of each other.
 *
 * The plug-in is opened at run time by its absolute path and holds one function. Both sides must come of one build of one
 * version: structs cross as they are.
 */
#ifndef AII_BACKEND_CUDA_PLUGIN_H
#define AII_BACKEND_CUDA_PLUGIN_H

#include "src/backend/backend.h"

#define AII_CUDA_LIBRARY "libaiinfra-cuda.so"
#define AII_CUDA_ENTRY "aii_cuda_plugin_table"

typedef struct aii_cuda_plugin {
  char version[32];                      /* AIINFRA_VERSION_STRING */
  size_t ops_size, weight_size, kv_size; /* of aii_backend_ops, aii_weight, aii_kv_view */
  /* ENOTSUP: no driver, too old a driver, no such device, too old a device; the message says which. Pool: of the CPU,
   * borrowed; for what the host has to prepare. */
  aiinfra_status (*create)(aii_mem *mem, aii_pool *pool, int32_t device, aii_backend **out, aiinfra_error *err);
} aii_cuda_plugin;
typedef const aii_cuda_plugin *(*aii_cuda_entry_fn)(void);

#endif
