/* faults.c - stands in for malloc and the file system calls of the whole process, so that any of them can fail.
 *
 * The definitions here come before the C library's, also for the shared libraries that the program uses. Each
 * counts, asks torture_should_fail(), and passes on. Who called is told by the return address: what lies within a
 * spared library goes through unharmed. Under a sanitizer, which needs malloc for itself, none of this exists.
 */
#include "tests/torture/faults.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/torture/torture.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#ifdef SANITIZED

void torture_find_spared(void)
{
}

long torture_live_blocks(void)
{
  return 0;
}

void *torture_real_realloc(void *ptr, size_t size)
{
  return realloc(ptr, size);
}

void torture_real_free(void *ptr)
{
  free(ptr);
}

#else

/* libuv and OpenBLAS abort by design, the linker has no way to report, the others belong to the tests. */
static const char *const spared_names[] = {"libuv.so",    "ld-linux",  "libopenblas", "libgfortran",
                                           "libquadmath", "libcmocka", "libgcc_s"};
static struct {
  uintptr_t from, to;
} spared[32];
static size_t n_spared;
static _Atomic long live_blocks;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *ptr, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *ptr);

static int note_spared(struct dl_phdr_info *info, size_t size, void *user)
{
  bool is_spared = false;
  (void)size, (void)user;
  for (size_t i = 0; i < sizeof spared_names / sizeof spared_names[0]; i++) {
    if (strstr(info->dlpi_name, spared_names[i]) != NULL) is_spared = true;
  }
  for (int i = 0; is_spared && i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
    if (ph->p_type != PT_LOAD || (ph->p_flags & PF_X) == 0 || n_spared == sizeof spared / sizeof spared[0]) continue;
    spared[n_spared].from = info->dlpi_addr + ph->p_vaddr;
    spared[n_spared].to = info->dlpi_addr + ph->p_vaddr + ph->p_memsz;
    n_spared++;
  }
  return 0;
}

void torture_find_spared(void)
{
  n_spared = 0;
  dl_iterate_phdr(note_spared, NULL);
}

static bool fails(unsigned source, const void *caller)
{
  uintptr_t at = (uintptr_t)caller;
  for (size_t i = 0; i < n_spared; i++) {
    if (at >= spared[i].from && at < spared[i].to) return false;
  }
  return torture_should_fail(source);
}
#define FAILS(source) fails(source, __builtin_return_address(0))

/* ---- memory -------------------------------------------------------------------------------------------------- */

static void *counted(void *ptr)
{
  if (ptr != NULL) live_blocks++;
  return ptr;
}

static void *out_of_memory(void)
{
  errno = ENOMEM;
  return NULL;
}

void *malloc(size_t size)
{
  return FAILS(TORTURE_MALLOC) ? out_of_memory() : counted(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
  return FAILS(TORTURE_MALLOC) ? out_of_memory() : counted(__libc_calloc(n, size));
}

void *realloc(void *ptr, size_t size)
{
  void *moved;
  if (size > 0 && FAILS(TORTURE_MALLOC)) return out_of_memory();
  moved = __libc_realloc(ptr, size);
  if (ptr == NULL) return counted(moved);
  if (size == 0 && moved == NULL) live_blocks--;
  return moved;
}

void *reallocarray(void *ptr, size_t n, size_t size)
{
  size_t bytes;
  void *moved;
  if (__builtin_mul_overflow(n, size, &bytes) || (bytes > 0 && FAILS(TORTURE_MALLOC))) return out_of_memory();
  moved = __libc_realloc(ptr, bytes);
  if (ptr == NULL) return counted(moved);
  if (bytes == 0 && moved == NULL) live_blocks--;
  return moved;
}

void *memalign(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size)
{
  return FAILS(TORTURE_MALLOC) ? out_of_memory() : counted(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
  return FAILS(TORTURE_MALLOC) ? out_of_memory() : counted(__libc_memalign(alignment, size));
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
  void *ptr = FAILS(TORTURE_MALLOC) ? NULL : counted(__libc_memalign(alignment, size));
  if (ptr == NULL) return ENOMEM;
  *out = ptr;
  return 0;
}

void free(void *ptr)
{
  if (ptr != NULL) live_blocks--;
  __libc_free(ptr);
}

long torture_live_blocks(void)
{
  return live_blocks;
}

void *torture_real_realloc(void *ptr, size_t size)
{
  return __libc_realloc(ptr, size);
}

void torture_real_free(void *ptr)
{
  __libc_free(ptr);
}

/* ---- files --------------------------------------------------------------------------------------------------- */

static long failed(int code)
{
  errno = code;
  return -1;
}

#define FILE_CALL(fd, code, call) ((fd) > 2 && FAILS(TORTURE_IO) ? failed(code) : syscall call)

ssize_t read(int fd, void *bytes, size_t n)
{
  return FILE_CALL(fd, EIO, (SYS_read, fd, bytes, n));
}

ssize_t pread(int fd, void *bytes, size_t n, off_t at)
{
  return FILE_CALL(fd, EIO, (SYS_pread64, fd, bytes, n, at));
}

ssize_t pread64(int fd, void *bytes, size_t n, off64_t at)
{
  return FILE_CALL(fd, EIO, (SYS_pread64, fd, bytes, n, at));
}

ssize_t write(int fd, const void *bytes, size_t n)
{
  return FILE_CALL(fd, ENOSPC, (SYS_write, fd, bytes, n));
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at)
{
  return FILE_CALL(fd, ENOSPC, (SYS_pwrite64, fd, bytes, n, at));
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at)
{
  return FILE_CALL(fd, ENOSPC, (SYS_pwrite64, fd, bytes, n, at));
}

int ftruncate(int fd, off_t size)
{
  return (int)FILE_CALL(fd, ENOSPC, (SYS_ftruncate, fd, size));
}

int ftruncate64(int fd, off64_t size)
{
  return (int)FILE_CALL(fd, ENOSPC, (SYS_ftruncate, fd, size));
}

int fsync(int fd)
{
  return (int)FILE_CALL(fd, EIO, (SYS_fsync, fd));
}

int fdatasync(int fd)
{
  return (int)FILE_CALL(fd, EIO, (SYS_fdatasync, fd));
}

#endif
