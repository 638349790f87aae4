/* disk.c - stands in for the calls that change files. See disk.h.
 *
 * Every change that could be lost is kept in a list until the sync that makes it safe: the bytes before and after, names
 * made and removed. When the power goes, all of them are undone from the last to the first; then those that are to
 * survive are made again from the first to the last, some of them by half. The process ends at once. One lock: a thread
 * that the library has beside the test's waits its turn, so that a change and its place in the list belong together.
 */
#include "tests/torture/crash/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/support/support.h"

enum { MAX_FDS = 4096, MAX_CHANGES = 1 << 16, SECTOR = 512 };

typedef enum change_kind { WRITE, TRUNCATE, CREATE, UNLINK, RENAME } change_kind;

typedef struct change {
  change_kind kind;
  int fd; /* of our own, on the file */
  ino_t inode;
  off_t at, size; /* size: of the file, before */
  size_t n, n_old;
  char *old, *new;
  char *path, *to, *kept; /* kept: another name of what was unlinked or renamed over */
} change;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool armed, tracked[MAX_FDS];
static disk_fault fault;
static long fault_at, n_calls;
static unsigned long long seed;
static change changes[MAX_CHANGES];
static size_t n_changes, n_kept;

/* ---- the real calls ---------------------------------------------------------------------------------------------- */

static long real_pwrite(int fd, const void *p, size_t n, off_t at)
{
  return syscall(SYS_pwrite64, fd, p, n, at);
}

static void must(bool ok, const char *what)
{
  if (ok) return;
  perror(what);
  syscall(SYS_exit_group, 99);
}

static char *copy_of(const char *s)
{
  char *copy = strdup(s);
  must(copy != NULL, "strdup");
  return copy;
}

/* ---- what could be lost ------------------------------------------------------------------------------------------ */

static change *add_change(change_kind kind)
{
  must(n_changes < MAX_CHANGES, "changes");
  change *c = &changes[n_changes++];
  *c = (change){.kind = kind, .fd = -1};
  return c;
}

/* A descriptor of ours on the file, which is never closed: closing it would end SQLite's locks. */
static int own_fd(int fd, ino_t inode)
{
  for (size_t i = 0; i < n_changes; i++) {
    if (changes[i].fd >= 0 && changes[i].inode == inode) return changes[i].fd;
  }
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
}

/* Bytes that a write or cut at `at` is going to replace. */
static change *note_bytes(change_kind kind, int fd, off_t at, const void *p, size_t n)
{
  struct stat st;
  must(fstat(fd, &st) == 0, "fstat");
  int own = own_fd(fd, st.st_ino);
  change *c = add_change(kind);
  c->fd = own;
  c->inode = st.st_ino;
  c->at = at;
  c->size = st.st_size;
  c->n_old = st.st_size > at ? (size_t)(st.st_size - at) : 0;
  if (kind == WRITE && c->n_old > n) c->n_old = n;
  c->old = malloc(c->n_old + 1);
  must(c->old != NULL && pread(c->fd, c->old, c->n_old, at) == (ssize_t)c->n_old, "read what was there");
  if (kind == WRITE) {
    c->n = n;
    c->new = malloc(n + 1);
    must(c->new != NULL, "malloc");
    memcpy(c->new, p, n);
  }
  return c;
}

static bool in_folder(const char *path, const char *folder)
{
  const char *slash = strrchr(path, '/');
  size_t n = slash != NULL ? (size_t)(slash - path) : 0;
  return n == strlen(folder) && strncmp(path, folder, n) == 0;
}

/* What is synced cannot be lost any more. */
static void forget(bool (*is_safe)(const change *c, const void *what), const void *what)
{
  size_t n = 0;
  for (size_t i = 0; i < n_changes; i++) {
    if (is_safe(&changes[i], what)) {
      if (changes[i].kept != NULL) syscall(SYS_unlink, changes[i].kept);
      free(changes[i].old), free(changes[i].new), free(changes[i].path), free(changes[i].to), free(changes[i].kept);
    } else {
      changes[n++] = changes[i];
    }
  }
  n_changes = n;
}

static bool of_inode(const change *c, const void *what)
{
  return c->kind <= TRUNCATE && c->inode == *(const ino_t *)what;
}

static bool of_folder(const change *c, const void *what)
{
  return c->kind >= CREATE && in_folder(c->path, what);
}

static void synced(int fd)
{
  struct stat st;
  char link[64], path[4096];
  must(fstat(fd, &st) == 0, "fstat");
  if (!S_ISDIR(st.st_mode)) {
    forget(of_inode, &st.st_ino);
    return;
  }
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  must(n > 0, "readlink");
  path[n] = '\0';
  forget(of_folder, path);
}

/* Keeps a file reachable whose name goes. */
static char *keep(const char *path)
{
  char kept[4096];
  snprintf(kept, sizeof kept, "%s.kept%zu", path, n_kept++);
  return syscall(SYS_link, path, kept) == 0 ? copy_of(kept) : NULL;
}

/* ---- the power goes ---------------------------------------------------------------------------------------------- */

static void undo(const change *c)
{
  if (c->kind <= TRUNCATE) {
    must(syscall(SYS_ftruncate, c->fd, c->size) == 0, "cut back");
    must(real_pwrite(c->fd, c->old, c->n_old, c->at) == (long)c->n_old, "write back");
  }
  if (c->kind == CREATE) syscall(SYS_unlink, c->path);
  if (c->kind == RENAME) syscall(SYS_rename, c->to, c->path);
  if (c->kept != NULL) syscall(SYS_rename, c->kept, c->kind == RENAME ? c->to : c->path);
}

/* Names come back in order or not at all, so they are left lost; writes come back one by one. */
static void redo(const change *c)
{
  unsigned long long dice = test_random(&seed) % 3;
  size_t n = dice == 1 ? c->n / 2 / SECTOR * SECTOR : c->n;
  if (dice == 0) return;
  if (c->kind == WRITE) must(real_pwrite(c->fd, c->new, n, c->at) == (long)n, "write again");
  if (c->kind == TRUNCATE && dice == 2) syscall(SYS_ftruncate, c->fd, c->at);
}

static void die(void)
{
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

static void lose(void)
{
  for (size_t i = n_changes; i-- > 0;) undo(&changes[i]);
  for (size_t i = 0; fault == DISK_POWER_SOME && i < n_changes; i++) redo(&changes[i]);
}

void disk_power_off(void)
{
  lose();
  die();
  for (;;) pause();
}

void disk_arm(disk_fault with, long at, unsigned long long with_seed)
{
  armed = true;
  fault = with;
  fault_at = at;
  seed = with_seed;
}

long disk_calls(void)
{
  return n_calls;
}

typedef enum verdict { GO, HALF, FAIL } verdict;

/* Counts a call that changes a file. */
static verdict count(void)
{
  n_calls++;
  if (fault == DISK_NONE || n_calls < fault_at) return GO;
  if (fault == DISK_FULL) {
    errno = ENOSPC;
    return FAIL;
  }
  if (n_calls > fault_at) return GO;
  if (fault == DISK_KILL) die();
  if (fault == DISK_TEAR) return HALF;
  if (fault == DISK_POWER || fault == DISK_POWER_SOME) disk_power_off();
  errno = EIO;
  return FAIL;
}

static bool is_tracked(int fd)
{
  return armed && fd >= 0 && fd < MAX_FDS && tracked[fd];
}

static bool is_ours(const char *path)
{
  size_t n = strlen(path);
  return armed && strncmp(path, test_tmp_dir(), strlen(test_tmp_dir())) == 0 &&
         !(n > 4 && strcmp(path + n - 4, "-shm") == 0);
}

/* ---- the calls ------------------------------------------------------------------------------------------------------ */

static ssize_t write_at(int fd, const void *p, size_t n, off64_t at)
{
  verdict v = count();
  if (v == FAIL) return -1;
  (void)note_bytes(WRITE, fd, at, p, n);
  long wrote = real_pwrite(fd, p, v == HALF ? n / 2 : n, at);
  if (v == HALF) die();
  return wrote;
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
  if (!is_tracked(fd)) return real_pwrite(fd, p, n, at);
  (void)pthread_mutex_lock(&lock);
  ssize_t wrote = write_at(fd, p, n, at);
  (void)pthread_mutex_unlock(&lock);
  return wrote;
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
  return pwrite64(fd, p, n, at);
}

ssize_t write(int fd, const void *p, size_t n)
{
  if (!is_tracked(fd)) return syscall(SYS_write, fd, p, n);
  off_t at = lseek(fd, 0, SEEK_CUR);
  ssize_t wrote = pwrite64(fd, p, n, at);
  if (wrote > 0) (void)lseek(fd, at + wrote, SEEK_SET);
  return wrote;
}

static int cut_file(int fd, off_t size)
{
  verdict v = count();
  if (v == FAIL) return -1;
  if (v == HALF) die();
  (void)note_bytes(TRUNCATE, fd, size, NULL, 0);
  return (int)syscall(SYS_ftruncate, fd, size);
}

static int cut(int fd, off_t size)
{
  if (!is_tracked(fd)) return (int)syscall(SYS_ftruncate, fd, size);
  (void)pthread_mutex_lock(&lock);
  int rc = cut_file(fd, size);
  (void)pthread_mutex_unlock(&lock);
  return rc;
}

int ftruncate64(int fd, off64_t size)
{
  return cut(fd, size);
}

int ftruncate(int fd, off_t size)
{
  return cut(fd, size);
}

static int sync_file(int fd)
{
  struct stat st;
  if (!armed || fstat(fd, &st) != 0 || !(is_tracked(fd) || S_ISDIR(st.st_mode))) return 0;
  (void)pthread_mutex_lock(&lock);
  verdict v = count();
  if (v == HALF) die();
  if (v == GO) synced(fd);
  (void)pthread_mutex_unlock(&lock);
  return v == FAIL ? -1 : 0;
}

int fsync(int fd)
{
  return sync_file(fd);
}

int fdatasync(int fd)
{
  return sync_file(fd);
}

static int remove_name(const char *path)
{
  verdict v = count();
  if (v == FAIL) return -1;
  if (v == HALF) die();
  change *c = add_change(UNLINK);
  c->path = copy_of(path);
  c->kept = keep(path);
  return (int)syscall(SYS_unlink, path);
}

int unlink(const char *path)
{
  if (!is_ours(path) || access(path, F_OK) != 0) return (int)syscall(SYS_unlink, path);
  (void)pthread_mutex_lock(&lock);
  int rc = remove_name(path);
  (void)pthread_mutex_unlock(&lock);
  return rc;
}

static int change_name(const char *from, const char *to)
{
  verdict v = count();
  if (v == FAIL) return -1;
  if (v == HALF) die();
  change *c = add_change(RENAME);
  c->path = copy_of(from);
  c->to = copy_of(to);
  c->kept = keep(to);
  return (int)syscall(SYS_rename, from, to);
}

int rename(const char *from, const char *to)
{
  if (!is_ours(to)) return (int)syscall(SYS_rename, from, to);
  (void)pthread_mutex_lock(&lock);
  int rc = change_name(from, to);
  (void)pthread_mutex_unlock(&lock);
  return rc;
}

static int make_file(const char *path, int flags, mode_t mode)
{
  verdict v = count();
  if (v == FAIL) return -1;
  if (v == HALF) die();
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  if (fd >= 0) add_change(CREATE)->path = copy_of(path);
  return fd;
}

static int open_file(const char *path, int flags, mode_t mode)
{
  bool ours = is_ours(path);
  (void)pthread_mutex_lock(&lock);
  bool makes = ours && (flags & O_CREAT) != 0 && access(path, F_OK) != 0;
  int fd = makes ? make_file(path, flags, mode) : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  if (fd >= 0 && fd < MAX_FDS) tracked[fd] = ours && (flags & O_DIRECTORY) == 0;
  (void)pthread_mutex_unlock(&lock);
  return fd;
}

int open64(const char *path, int flags, ...)
{
  va_list args;
  va_start(args, flags);
  mode_t mode = (flags & O_CREAT) != 0 ? (mode_t)va_arg(args, int) : 0;
  va_end(args);
  return open_file(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
  va_list args;
  va_start(args, flags);
  mode_t mode = (flags & O_CREAT) != 0 ? (mode_t)va_arg(args, int) : 0;
  va_end(args);
  return open_file(path, flags, mode);
}

int close(int fd)
{
  if (fd >= 0 && fd < MAX_FDS) tracked[fd] = false;
  return (int)syscall(SYS_close, fd);
}
