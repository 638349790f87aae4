/* src/backend/plugin.h - libraries that are opened at run time: what they and libaiinfra know of each other.
 *
 * A plug-in holds one function, which returns its table. Both sides must come of one build of one version: structs cross
 * as they are, so each table begins with what tells them apart.
 */
#ifndef AII_BACKEND_PLUGIN_H
#define AII_BACKEND_PLUGIN_H

#include "src/backend/backend.h"

typedef struct aii_plugin_head {
  char version[32]; /* AIINFRA_VERSION_STRING */
  size_t ops_size, weight_size, kv_size, comm_size;
} aii_plugin_head;

/* For the first member of a table. */
#define AII_PLUGIN_HEAD                                                                                            \
  {                                                                                                                \
    AIINFRA_VERSION_STRING, sizeof(aii_backend_ops), sizeof(aii_weight), sizeof(aii_kv_view), sizeof(aii_comm_ops) \
  }

/* Opens a plug-in: the file beside this library, or `path`, which is absolute; calls its function `entry`. It stays open
 * until the process ends. `make` is the verb that builds it. ENOTSUP with the reason when there is none, or one of
 * another version. (plugin.c) */
aiinfra_status aii_plugin_open(const char *path, const char *file, const char *entry, const char *make,
                               const aii_plugin_head **out, aiinfra_error *err);

/* libaiinfra-cuda.so */
#define AII_CUDA_LIBRARY "libaiinfra-cuda.so"
#define AII_CUDA_ENTRY "aii_cuda_plugin_table"
typedef struct aii_cuda_plugin {
  aii_plugin_head head;
  /* ENOTSUP: no driver, too old a driver, no such device, too old a device; the message says which. Pool: of the CPU,
   * borrowed; for what the host has to prepare. */
  aiinfra_status (*create)(aii_mem *mem, aii_pool *pool, int32_t device, aii_backend **out, aiinfra_error *err);
} aii_cuda_plugin;

/* libaiinfra-mpi.so */
#define AII_MPI_LIBRARY "libaiinfra-mpi.so"
#define AII_MPI_ENTRY "aii_mpi_plugin_table"
typedef struct aii_mpi_plugin {
  aii_plugin_head head;
  aiinfra_status (*create)(aii_mem *mem, aii_comm **out, aiinfra_error *err);
} aii_mpi_plugin;

#endif
