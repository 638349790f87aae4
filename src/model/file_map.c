/* file_map.c - maps files read-only, and keeps the list of those that a model points into.
 *
 * A file is mapped private and locked against nothing; the descriptor is closed at once. What the mapping cannot guard
 * against: somebody who cuts the file short while it is open. Touching a page that is gone kills the process with
 * SIGBUS, and a library must not handle signals. Replace model files by renaming a new one over them; that leaves the
 * mapping as it was.
 *
 * A file's id is made of what its times, its number and its size say. The change time is set by the kernel alone, so a file
 * that was changed and given its old modification time back has another id. A file that changed a moment ago may change
 * again without its times showing it: it has no id.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "src/model/gguf.h"

enum { YOUNG_S = 2 }; /* no file system counts its times in larger steps */

static uint64_t id_of(const struct stat *st)
{
  struct timespec now;
  if (clock_gettime(CLOCK_REALTIME, &now) != 0 || st->st_ctim.tv_sec > now.tv_sec - YOUNG_S) return 0;
  const uint64_t what[] = {(uint64_t)st->st_dev,         (uint64_t)st->st_ino,          (uint64_t)st->st_size,
                           (uint64_t)st->st_mtim.tv_sec, (uint64_t)st->st_mtim.tv_nsec, (uint64_t)st->st_ctim.tv_sec,
                           (uint64_t)st->st_ctim.tv_nsec};
  uint64_t id = aii_hash64(what, sizeof what, 0);
  return id != 0 ? id : 1;
}

static aiinfra_status map_fd(int fd, aii_file *out, aiinfra_error *err)
{
  struct stat st;
  if (fstat(fd, &st) != 0) return aii_fail_errno(err, errno, "look at the file");
  if (!S_ISREG(st.st_mode)) return aii_fail(err, AIINFRA_EINVAL, "not a regular file");
  if (st.st_size <= 0) return aii_fail(err, AIINFRA_EFORMAT, "the file is empty: download it again");
  size_t size = (size_t)st.st_size;
  void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (bytes == MAP_FAILED) return aii_fail_errno(err, errno, "map %zu bytes", size);
  *out = (aii_file){bytes, size, id_of(&st)};
  return AIINFRA_OK;
}

aiinfra_status aii_file_map(const char *path, aii_file *out, aiinfra_error *err)
{
  *out = (aii_file){0};
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return aii_fail_errno(err, errno, "open '%s'", path);
  aiinfra_status rc = map_fd(fd, out, err);
  (void)close(fd);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "open '%s'", path);
}

void aii_file_unmap(aii_file *file)
{
  if (file->bytes != NULL) (void)munmap((void *)(uintptr_t)file->bytes, file->size);
  *file = (aii_file){0};
}

aiinfra_status aii_file_set_add(aii_file_set *files, aii_file file, aiinfra_error *err)
{
  if (!aii_grow(files->mem, &files->items, &files->cap, files->n + 1, sizeof files->items[0])) {
    aii_file_unmap(&file);
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for a list of %zu files", files->n + 1);
  }
  files->items[files->n++] = file;
  return AIINFRA_OK;
}

void aii_file_set_forget(const aii_file_set *files, const void *p, size_t n)
{
  uintptr_t first = (uintptr_t)p, page = (uintptr_t)sysconf(_SC_PAGESIZE);
  for (size_t i = 0; i < files->n; i++) {
    uintptr_t begin = (uintptr_t)files->items[i].bytes;
    if (first < begin || first - begin > files->items[i].size || n > files->items[i].size - (first - begin)) continue;
    uintptr_t from = (first + page - 1) / page * page, to = (first + n) / page * page; /* neighbours keep theirs */
    if (from < to) (void)madvise((void *)from, to - from, MADV_DONTNEED);
  }
}

void aii_file_set_free(aii_file_set *files)
{
  for (size_t i = 0; i < files->n; i++) aii_file_unmap(&files->items[i]);
  aii_del(files->mem, files->items, files->cap * sizeof files->items[0]);
  *files = (aii_file_set){files->mem, NULL, 0, 0};
}
