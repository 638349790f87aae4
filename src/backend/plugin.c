/* plugin.c - makes backends and communicators with the plug-ins that lib/base/library.c opens. Any thread. */
#include "src/backend/plugin.h"

static aiinfra_status check(const aii_plugin_head *head, const char *path, aiinfra_error *err)
{
  static const aii_plugin_head ours = AII_PLUGIN_HEAD;
  if (memcmp(head, &ours, sizeof ours) == 0) return AIINFRA_OK;
  if (strncmp(head->version, ours.version, sizeof ours.version) == 0)
    return aii_fail(
        err, AIINFRA_ENOTSUP,
        "'%s' and this library are " AIINFRA_VERSION_STRING ", but not of one build: make the plug-in again", path);
  return aii_fail(err, AIINFRA_ENOTSUP,
                  "'%s' is of version %.32s, this library of " AIINFRA_VERSION_STRING ": install both from one build",
                  path, head->version);
}

aiinfra_status aii_plugin_open(const char *path, const char *file, const char *entry, const char *make,
                               const aii_plugin_head **out, aiinfra_error *err)
{
  const void *table;
  *out = NULL;
  aiinfra_status rc = aii_library_open(path, file, entry, make, &table, err);
  if (rc == AIINFRA_OK) rc = check(table, path != NULL ? path : file, err);
  if (rc == AIINFRA_OK) *out = table;
  return rc;
}

aiinfra_status aii_cuda_backend_create(aii_mem *mem, aii_pool *pool, const char *path, int32_t device,
                                       aii_backend **out, aiinfra_error *err)
{
  const aii_plugin_head *head;
  *out = NULL;
  aiinfra_status rc = aii_plugin_open(path, AII_CUDA_LIBRARY, AII_CUDA_ENTRY, "cuda", &head, err);
  return rc == AIINFRA_OK ? AII_CONTAINER(head, const aii_cuda_plugin, head)->create(mem, pool, device, out, err) : rc;
}

aiinfra_status aii_mpi_comm_create(aii_mem *mem, const char *path, aii_comm **out, aiinfra_error *err)
{
  const aii_plugin_head *head;
  *out = NULL;
  aiinfra_status rc = aii_plugin_open(path, AII_MPI_LIBRARY, AII_MPI_ENTRY, "mpi", &head, err);
  return rc == AIINFRA_OK ? AII_CONTAINER(head, const aii_mpi_plugin, head)->create(mem, out, err) : rc;
}
