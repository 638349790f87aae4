/* aside.c - a file is written under another name in the same folder, synced, and renamed: nobody ever sees half of it.
 *
 * Writers of the same file do not disturb each other: each has a name of its own, and the last one to finish wins. What a
 * killed process leaves behind ends in ".part". Any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/base/base.h"

enum { WRITE_BYTES = 1 << 30 };

aiinfra_status aii_aside_open(aii_aside *a, aii_mem *mem, const char *to, aiinfra_error *err)
{
  *a = (aii_aside){.fd = -1, .to = to};
  aii_buf_init(&a->path, mem, 0);
  aii_buf_fmt(&a->path, "%s.%ld-%llx.part", to, (long)getpid(), (unsigned long long)aii_now_ns());
  aiinfra_status rc = AIINFRA_OK;
  if (a->path.failed) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a path");
  if (rc == AIINFRA_OK) a->fd = open(a->path.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (rc == AIINFRA_OK && a->fd < 0) rc = aii_fail_errno(err, errno, "create '%s'", a->path.data);
  if (rc != AIINFRA_OK) aii_buf_free(&a->path);
  return rc;
}

aiinfra_status aii_aside_write(aii_aside *a, const void *bytes, size_t n, aiinfra_error *err)
{
  const char *at = bytes;
  while (n > 0) {
    ssize_t wrote = write(a->fd, at, AII_MIN(n, (size_t)WRITE_BYTES));
    if (wrote < 0 && errno != EINTR) return aii_fail_errno(err, errno, "write");
    if (wrote > 0) {
      at += wrote;
      n -= (size_t)wrote;
    }
  }
  return AIINFRA_OK;
}

/* The name is on the disk once its folder is. Where folders cannot be synced, the file system sees to it. */
static void sync_folder(const aii_aside *a)
{
  char *path = a->path.data, *slash = strrchr(path, '/');
  if (slash != NULL) slash[slash == path] = '\0';
  int fd = open(slash != NULL ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)fsync(fd);
  (void)close(fd);
}

aiinfra_status aii_aside_close(aii_aside *a, aiinfra_status rc, aiinfra_error *err)
{
  const char *path = a->path.data;
  if (rc == AIINFRA_OK && fsync(a->fd) != 0) rc = aii_fail_errno(err, errno, "sync '%s'", path);
  if (close(a->fd) != 0 && rc == AIINFRA_OK) rc = aii_fail_errno(err, errno, "close '%s'", path);
  if (rc == AIINFRA_OK && rename(path, a->to) != 0) rc = aii_fail_errno(err, errno, "rename '%s'", path);
  if (rc != AIINFRA_OK) (void)unlink(path);
  else sync_folder(a);
  aii_buf_free(&a->path);
  return rc;
}
