/* files.c - finds the files below folders, and reads those that are text.
 *
 * Folders are walked with a list of those still to do, no recursion. Entries whose names begin with a dot are left
 * out, and links to folders are not followed, so that no loop can be met; what the caller names itself is taken as it
 * is. A folder or file that cannot be read is an error, one that vanished meanwhile is not. Any thread.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/memory/memory.h"

void aii_files_init(aii_files *files, aii_mem *mem)
{
  *files = (aii_files){.mem = mem};
}

void aii_files_free(aii_files *files)
{
  for (size_t i = 0; i < files->n; i++) aii_strfree(files->mem, files->paths[i]);
  aii_del(files->mem, files->paths, files->cap * sizeof *files->paths);
  aii_files_init(files, files->mem);
}

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a list of files");
}

static aiinfra_status push(aii_files *files, const char *path, aiinfra_error *err)
{
  if (!aii_grow(files->mem, &files->paths, &files->cap, files->n + 1, sizeof *files->paths)) return no_memory(err);
  char *copy = aii_strdup(files->mem, path);
  if (copy == NULL) return no_memory(err);
  files->paths[files->n++] = copy;
  return AIINFRA_OK;
}

/* A file goes by its path from the current folder when it lies below it: that is how a reader knows it. */
static aiinfra_status push_file(aii_files *files, const char *path, aiinfra_error *err)
{
  char here[PATH_MAX];
  size_t n = getcwd(here, sizeof here) != NULL ? strlen(here) : 0;
  bool below = n > 1 && strncmp(path, here, n) == 0 && path[n] == '/';
  return push(files, below ? path + n + 1 : path, err);
}

/* A path found below a folder: a file, a folder to do, or nothing of interest. */
static aiinfra_status sort_in(aii_files *files, aii_files *folders, const char *path, aiinfra_error *err)
{
  struct stat st;
  char real[PATH_MAX];
  if (lstat(path, &st) != 0) return errno == ENOENT ? AIINFRA_OK : aii_fail_errno(err, errno, "%s", path);
  if (S_ISDIR(st.st_mode)) return push(folders, path, err);
  if (S_ISREG(st.st_mode)) return push_file(files, path, err);
  if (!S_ISLNK(st.st_mode) || stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return AIINFRA_OK;
  return realpath(path, real) != NULL ? push_file(files, real, err) : AIINFRA_OK;
}

static aiinfra_status read_folder(aii_files *files, aii_files *folders, const char *folder, aiinfra_error *err)
{
  aii_buf path;
  aiinfra_status rc = AIINFRA_OK;
  DIR *dir = opendir(folder);
  if (dir == NULL) return errno == ENOENT ? AIINFRA_OK : aii_fail_errno(err, errno, "open the folder %s", folder);
  aii_buf_init(&path, files->mem, 0);
  while (rc == AIINFRA_OK) {
    errno = 0;
    struct dirent *entry = readdir(dir);
    if (entry == NULL) {
      if (errno != 0) rc = aii_fail_errno(err, errno, "read the folder %s", folder);
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
  return strcmp(*(char *const *)a, *(char *const *)b);
}

aiinfra_status aii_files_add(aii_files *files, const char *path, aiinfra_error *err)
{
  struct stat st;
  char real[PATH_MAX];
  aii_files folders;
  size_t first = files->n;
  if (realpath(path, real) == NULL || stat(real, &st) != 0) return aii_fail_errno(err, errno, "%s", path);
  if (!S_ISDIR(st.st_mode)) return push_file(files, real, err);
  aii_files_init(&folders, files->mem);
  aiinfra_status rc = push(&folders, real, err);
  while (rc == AIINFRA_OK && folders.n > 0) {
    char *folder = folders.paths[--folders.n];
    rc = read_folder(files, &folders, folder, err);
    aii_strfree(files->mem, folder);
  }
  aii_files_free(&folders);
  if (files->n > first) qsort(files->paths + first, files->n - first, sizeof *files->paths, by_name);
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
  if (out->failed && !out->over) return aii_fail(err, AIINFRA_ENOMEM, "no memory to read %s", path);
  return AIINFRA_OK;
}

aiinfra_status aii_file_read(const char *path, aii_buf *out, bool *is_text, aiinfra_error *err)
{
  struct stat st;
  *is_text = false;
  aii_buf_clear(out);
  out->max = AII_FILE_MAX_BYTES;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not keep us waiting */
  if (fd < 0) return aii_fail_errno(err, errno, "open %s", path);
  aiinfra_status rc = AIINFRA_OK;
  bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
  if (regular && (uint64_t)st.st_size <= AII_FILE_MAX_BYTES) rc = read_all(fd, path, out, err);
  (void)close(fd);
  bool whole = regular && (uint64_t)st.st_size <= AII_FILE_MAX_BYTES && !out->over;
  if (rc == AIINFRA_OK && whole) {
    const char *s = aii_buf_cstr(out);
    *is_text = memchr(s, '\0', out->len) == NULL && aii_utf8_valid(s, out->len);
  }
  if (rc != AIINFRA_OK || !*is_text) aii_buf_clear(out);
  return rc;
}
