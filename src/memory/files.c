/* files.c - finds the files below folders, and reads those that are text.
 *
 * Folders are walked with a list of those still to do, no recursion. Entries whose names begin with a dot are left
 * out, and links to folders are not followed, so that no loop can be met; what the caller names itself is taken as it
 * is. A folder that cannot be read is a problem of the report, one that vanished meanwhile is not. Any thread.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/memory/memory.h"

void aii_files_init(aii_files *files, aii_mem *mem, aii_ingest_report *report)
{
  *files = (aii_files){.mem = mem, .report = report};
}

void aii_files_free(aii_files *files)
{
  for (size_t i = 0; i < files->n; i++) {
    aii_strfree(files->mem, files->files[i].path);
    aii_strfree(files->mem, files->files[i].real);
  }
  aii_del(files->mem, files->files, files->cap * sizeof *files->files);
  aii_files_init(files, files->mem, files->report);
}

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a list of files");
}

static aiinfra_status push(aii_files *files, const char *path, const char *real, aiinfra_error *err)
{
  if (!aii_grow(files->mem, &files->files, &files->cap, files->n + 1, sizeof *files->files)) return no_memory(err);
  aii_docfile file = {aii_strdup(files->mem, path), aii_strdup(files->mem, real)};
  if (file.path == NULL || file.real == NULL) {
    aii_strfree(files->mem, file.path);
    aii_strfree(files->mem, file.real);
    return no_memory(err);
  }
  files->files[files->n++] = file;
  return AIINFRA_OK;
}

/* A file goes by its path from the current folder when it lies below it: that is how a reader knows it. */
static aiinfra_status push_file(aii_files *files, const char *path, aiinfra_error *err)
{
  char here[PATH_MAX];
  size_t n = getcwd(here, sizeof here) != NULL ? strlen(here) : 0;
  bool below = n > 1 && strncmp(path, here, n) == 0 && path[n] == '/';
  return push(files, below ? path + n + 1 : path, path, err);
}

static void problem(const aii_files *files, const char *path, int errnum)
{
  aiinfra_error why;
  (void)aii_fail_errno(&why, errnum, "it cannot be read");
  if (files->report != NULL && errnum != ENOENT) aii_report_problem(files->report, path, &why);
}

/* A path found below a folder: a file, a folder to do, or nothing of interest. */
static aiinfra_status sort_in(aii_files *files, aii_files *folders, const char *path, aiinfra_error *err)
{
  struct stat st;
  char real[PATH_MAX];
  if (lstat(path, &st) != 0) {
    problem(files, path, errno);
    return AIINFRA_OK;
  }
  if (S_ISDIR(st.st_mode)) return push(folders, path, path, err);
  if (S_ISREG(st.st_mode)) return push_file(files, path, err);
  if (!S_ISLNK(st.st_mode) || stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return AIINFRA_OK;
  return realpath(path, real) != NULL ? push_file(files, real, err) : AIINFRA_OK;
}

static aiinfra_status read_folder(aii_files *files, aii_files *folders, const char *folder, aiinfra_error *err)
{
  aii_buf path;
  aiinfra_status rc = AIINFRA_OK;
  DIR *dir = opendir(folder);
  if (dir == NULL) {
    problem(files, folder, errno);
    return errno == ENOMEM ? no_memory(err) : AIINFRA_OK;
  }
  aii_buf_init(&path, files->mem, 0);
  while (rc == AIINFRA_OK) {
    errno = 0;
    struct dirent *entry = readdir(dir);
    if (entry == NULL) {
      if (errno != 0) problem(files, folder, errno);
      break;
    }
    if (entry->d_name[0] == '.') continue;
    aii_buf_clear(&path);
    aii_buf_str(&path, folder);
    if (path.len > 0 && path.data[path.len - 1] != '/') aii_buf_char(&path, '/');
    aii_buf_str(&path, entry->d_name);
    rc = path.failed ? no_memory(err) : sort_in(files, folders, path.data, err);
  }
  aii_buf_free(&path);
  (void)closedir(dir);
  return rc;
}

static int by_name(const void *a, const void *b)
{
  return strcmp(((const aii_docfile *)a)->path, ((const aii_docfile *)b)->path);
}

aiinfra_status aii_files_add(aii_files *files, const char *path, aiinfra_error *err)
{
  struct stat st;
  char real[PATH_MAX];
  aii_files folders;
  size_t first = files->n;
  if (realpath(path, real) == NULL || stat(real, &st) != 0) return aii_fail_errno(err, errno, "%s", path);
  if (!S_ISDIR(st.st_mode)) return push_file(files, real, err);
  aii_files_init(&folders, files->mem, NULL);
  aiinfra_status rc = push(&folders, real, real, err);
  while (rc == AIINFRA_OK && folders.n > 0) {
    aii_docfile folder = folders.files[--folders.n];
    rc = read_folder(files, &folders, folder.real, err);
    aii_strfree(files->mem, folder.path);
    aii_strfree(files->mem, folder.real);
  }
  aii_files_free(&folders);
  if (files->n > first) qsort(files->files + first, files->n - first, sizeof *files->files, by_name);
  return rc;
}

static aiinfra_status read_all(int fd, const char *path, aii_buf *out, aiinfra_error *err)
{
  char bytes[16384];
  ssize_t got;
  do {
    got = read(fd, bytes, sizeof bytes);
    if (got > 0) aii_buf_add(out, bytes, (size_t)got);
    if (got < 0 && errno == EINTR) continue;
  } while (got != 0 && !out->failed && (got > 0 || errno == EINTR));
  if (got < 0) return aii_fail_errno(err, errno, "read %s", path);
  if (out->over) return aii_fail(err, AIINFRA_ELIMIT, "it is larger than %zu MiB", AII_FILE_MAX_BYTES >> 20);
  return out->failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory to read %s", path) : AIINFRA_OK;
}

aiinfra_status aii_file_read(const char *path, aii_buf *out, aiinfra_error *err)
{
  struct stat st;
  aii_buf_free(out); /* one that was once too small says so for ever */
  aii_buf_init(out, out->mem, AII_FILE_MAX_BYTES);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not keep us waiting */
  if (fd < 0) return aii_fail_errno(err, errno, "open %s", path);
  aiinfra_status rc = AIINFRA_OK;
  if (fstat(fd, &st) != 0) rc = aii_fail_errno(err, errno, "look at %s", path);
  else if (!S_ISREG(st.st_mode)) rc = aii_fail(err, AIINFRA_ENOTSUP, "it is no regular file");
  else if ((uint64_t)st.st_size > AII_FILE_MAX_BYTES)
    rc = aii_fail(err, AIINFRA_ELIMIT, "it is larger than %zu MiB", AII_FILE_MAX_BYTES >> 20);
  else rc = read_all(fd, path, out, err);
  (void)close(fd);
  return rc;
}
