/* store.c - the bytes of the second tier: host memory, or a file without a name that is mapped.
 *
 * All of a file is reserved when it is made: a disk that is full is told then, not by a signal later.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/kv/kv.h"

struct aii_kv_store {
  aii_backend *be;
  char *bytes;
  size_t n_bytes, slot_bytes;
  bool mapped;
};

/* ---- a file ---- */

/* A file system that has no files without names gets one that loses it at once. */
static int open_nameless(const char *dir, aiinfra_error *err)
{
  char path[1024];
  int fd = -1;
#ifdef O_TMPFILE
  fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) goto done;
#endif
  int n = snprintf(path, sizeof path, "%s/aiinfra-kv-XXXXXX", dir);
  errno = ENAMETOOLONG;
  if (n > 0 && (size_t)n < sizeof path) fd = mkstemp(path);
  if (fd >= 0) (void)unlink(path);
done:
  if (fd < 0) (void)aii_fail_errno(err, errno, "make a file for the second tier in '%s'", dir);
  return fd;
}

static aiinfra_status map_file(aii_kv_store *store, const char *dir, aiinfra_error *err)
{
  int fd = open_nameless(dir, err);
  if (fd < 0) return err != NULL ? err->status : AIINFRA_EIO;
  aiinfra_status rc = AIINFRA_OK;
  int failed = posix_fallocate(fd, 0, (off_t)store->n_bytes);
  if (failed != 0) rc = aii_fail_errno(err, failed, "reserve %zu bytes in '%s'", store->n_bytes, dir);
  void *bytes = MAP_FAILED;
  if (rc == AIINFRA_OK) {
    bytes = mmap(NULL, store->n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED) rc = aii_fail_errno(err, errno, "map %zu bytes", store->n_bytes);
  }
  (void)close(fd);
  if (rc == AIINFRA_OK) store->bytes = bytes;
  store->mapped = rc == AIINFRA_OK;
  return rc;
}

/* ---- memory ---- */

static aiinfra_status take_memory(aii_kv_store *store, aiinfra_error *err)
{
  if (store->be->ops->alloc_host != NULL)
    return store->be->ops->alloc_host(store->be, store->n_bytes, (void **)&store->bytes, err);
  store->bytes = aii_new_aligned(store->be->mem, store->n_bytes);
  if (store->bytes == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu bytes", store->n_bytes);
  return AIINFRA_OK;
}

/* ---- both ---- */

aiinfra_status aii_kv_store_create(aii_backend *be, const char *dir, size_t n_slots, size_t slot_bytes,
                                   aii_kv_store **out, aiinfra_error *err)
{
  *out = NULL;
  aii_kv_store *store = aii_new(be->mem, sizeof *store);
  if (store == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a second tier");
  *store = (aii_kv_store){.be = be, .n_bytes = n_slots * slot_bytes, .slot_bytes = slot_bytes};
  aiinfra_status rc = dir != NULL ? map_file(store, dir, err) : take_memory(store, err);
  if (rc != AIINFRA_OK) aii_kv_store_free(store);
  else *out = store;
  return rc;
}

void aii_kv_store_free(aii_kv_store *store)
{
  if (store == NULL) return;
  aii_backend *be = store->be;
  if (store->mapped) {
    (void)be->ops->sync(be, NULL); /* copies may be under way */
    (void)munmap(store->bytes, store->n_bytes);
  } else if (be->ops->release_host != NULL) {
    be->ops->release_host(be, store->bytes, store->n_bytes);
  } else {
    aii_del_aligned(be->mem, store->bytes, store->n_bytes);
  }
  aii_del(be->mem, store, sizeof *store);
}

char *aii_kv_store_slot(aii_kv_store *store, uint32_t slot)
{
  return store->bytes + slot * store->slot_bytes;
}

aiinfra_status aii_kv_store_move(aii_kv_store *store, const aii_kv_view *view, const aii_kv_move *move,
                                 aiinfra_error *err)
{
  char *slot = aii_kv_store_slot(store, move->slot);
  return store->be->ops->swap_block(store->be, view, move->block, slot, !move->fetch, err);
}
