/* cuda.c - finds libaiinfra-cuda.so, and makes a backend with it.
 *
 * It lies beside this library (or the program, where this library is a part of that), unless its opener names a file. It
 * stays open until the process ends: CUDA's runtime has state of its own.
 */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/backend/cuda_plugin.h"

/* The folder of this code's file, with its slash. */
static bool own_folder(char out[PATH_MAX])
{
  Dl_info info;
  char real[PATH_MAX];
  if (dladdr((const void *)(uintptr_t)aii_cuda_backend_create, &info) == 0 || info.dli_fname == NULL) return false;
  if (realpath(info.dli_fname, real) == NULL) return false;
  char *slash = strrchr(real, '/');
  if (slash == NULL) return false;
  slash[1] = '\0';
  memcpy(out, real, strlen(real) + 1);
  return true;
}

static aiinfra_status find(const char *path, char out[PATH_MAX], aiinfra_error *err)
{
  char folder[PATH_MAX];
  int n;
  if (path != NULL && path[0] != '/')
    return aii_fail(err, AIINFRA_EINVAL, "the CUDA plug-in '%s' has no absolute path", path);
  if (path != NULL) n = snprintf(out, PATH_MAX, "%s", path);
  else if (own_folder(folder)) n = snprintf(out, PATH_MAX, "%s%s", folder, AII_CUDA_LIBRARY);
  else
    return aii_fail(err, AIINFRA_ENOTSUP, "the folder of the library is not known: give the path of the CUDA plug-in");
  if (n < 0 || n >= PATH_MAX) return aii_fail(err, AIINFRA_EINVAL, "the path of the CUDA plug-in is too long");
  return AIINFRA_OK;
}

static aiinfra_status check(const aii_cuda_plugin *plugin, const char *path, aiinfra_error *err)
{
  bool same = strncmp(plugin->version, AIINFRA_VERSION_STRING, sizeof plugin->version) == 0;
  if (same && plugin->ops_size == sizeof(aii_backend_ops) && plugin->weight_size == sizeof(aii_weight) &&
      plugin->kv_size == sizeof(aii_kv_view))
    return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ENOTSUP,
                  "'%s' is of version %.32s, this library of " AIINFRA_VERSION_STRING ": install both from one build",
                  path, plugin->version);
}

aiinfra_status aii_cuda_backend_create(aii_mem *mem, aii_pool *pool, const char *path, int32_t device,
                                       aii_backend **out, aiinfra_error *err)
{
  char file[PATH_MAX];
  *out = NULL;
  aiinfra_status rc = find(path, file, err);
  if (rc != AIINFRA_OK) return rc;
  void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL)
    return aii_fail(err, AIINFRA_ENOTSUP, "the CUDA plug-in is not there (%s): build it with make cuda", dlerror());
  aii_cuda_entry_fn entry;
  void *symbol = dlsym(library, AII_CUDA_ENTRY);
  memcpy(&entry, &symbol, sizeof entry);
  rc = entry == NULL ? aii_fail(err, AIINFRA_EFORMAT, "'%s' is no CUDA plug-in of libaiinfra", file)
                     : check(entry(), file, err);
  if (rc != AIINFRA_OK) {
    dlclose(library);
    return rc;
  }
  return entry()->create(mem, pool, device, out, err);
}
