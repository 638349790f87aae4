/* library.c - opens plug-ins: libraries that lie beside this one and hold one function, which returns a table.
 *
 * A plug-in lies beside this library (or the program, where this library is a part of that), unless its opener names a
 * file. It stays open until the process ends: what stands behind it, CUDA or MPI, has state of its own. Any thread.
 */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/base.h"

/* The folder of this code's file, with its slash. */
static bool own_folder(char out[PATH_MAX])
{
  Dl_info info;
  char real[PATH_MAX];
  if (dladdr((const void *)(uintptr_t)aii_library_open, &info) == 0 || info.dli_fname == NULL) return false;
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

aiinfra_status aii_library_open(const char *path, const char *file, const char *entry, const char *make,
                                const void **out, aiinfra_error *err)
{
  char real[PATH_MAX];
  *out = NULL;
  aiinfra_status rc = find(path, file, real, err);
  if (rc != AIINFRA_OK) return rc;
  void *library = dlopen(real, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL)
    return aii_fail(err, AIINFRA_ENOTSUP, "the plug-in is not there (%s): build it with make %s", dlerror(), make);
  const void *(*table)(void);
  void *symbol = dlsym(library, entry);
  memcpy(&table, &symbol, sizeof table);
  if (table != NULL) {
    *out = table();
    return AIINFRA_OK;
  }
  dlclose(library);
  return aii_fail(err, AIINFRA_EFORMAT, "'%s' is no plug-in of libaiinfra for this", real);
}
