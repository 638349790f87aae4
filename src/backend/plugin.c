/* plugin.c - finds plug-ins, and makes backends and communicators with them.
 *
 * A plug-in lies beside this library (or the program, where this library is a part of that), unless its opener names a
 * file. It stays open until the process ends: what stands behind it, CUDA or MPI, has state of its own.
 */
#include "src/backend/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

/* The folder of this code's file, with its slash. */
static bool own_folder(char out[PATH_MAX])
{
  Dl_info info;
  char real[PATH_MAX];
  if (dladdr((const void *)(uintptr_t)aii_plugin_open, &info) == 0 || info.dli_fname == NULL) return false;
  if (realpath(info.dli_fname, real) == NULL) return false;
  char *slash = strrchr(real, '/');
  if (slash == NULL) return false;
  slash[1] = '\0';
  memcpy(out, real, strlen(real) + 1);
  return true;
}

static aiinfra_status find(const char *path, const char *file, char out[PATH_MAX], aiinfra_error *err)
{
  char folder[PATH_MAX];
  int n;
  if (path != NULL && path[0] != '/')
    return aii_fail(err, AIINFRA_EINVAL, "the plug-in '%s' has no absolute path", path);
  if (path != NULL) n = snprintf(out, PATH_MAX, "%s", path);
  else if (own_folder(folder)) n = snprintf(out, PATH_MAX, "%s%s", folder, file);
  else return aii_fail(err, AIINFRA_ENOTSUP, "the folder of the library is not known: give the path of %s", file);
  if (n < 0 || n >= PATH_MAX) return aii_fail(err, AIINFRA_EINVAL, "the path of the plug-in is too long");
  return AIINFRA_OK;
}

static aiinfra_status check(const aii_plugin_head *head, const char *path, aiinfra_error *err)
{
  static const aii_plugin_head ours = AII_PLUGIN_HEAD;
  if (memcmp(head, &ours, sizeof ours) == 0) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ENOTSUP,
                  "'%s' is of version %.32s, this library of " AIINFRA_VERSION_STRING ": install both from one build",
                  path, head->version);
}

aiinfra_status aii_plugin_open(const char *path, const char *file, const char *entry, const char *make,
                               const aii_plugin_head **out, aiinfra_error *err)
{
  char real[PATH_MAX];
  *out = NULL;
  aiinfra_status rc = find(path, file, real, err);
  if (rc != AIINFRA_OK) return rc;
  void *library = dlopen(real, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL)
    return aii_fail(err, AIINFRA_ENOTSUP, "the plug-in is not there (%s): build it with make %s", dlerror(), make);
  const aii_plugin_head *(*table)(void);
  void *symbol = dlsym(library, entry);
  memcpy(&table, &symbol, sizeof table);
  rc = table == NULL ? aii_fail(err, AIINFRA_EFORMAT, "'%s' is no plug-in of libaiinfra for this", real)
                     : check(table(), real, err);
  if (rc == AIINFRA_OK) *out = table();
  else dlclose(library);
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
