/* nccl.c - the part of NCCL that src/backend/cuda uses, for processes of one machine without GPUs.
 *
 * The ranks share a piece of memory that the id names: each writes what it has into its place, all wait for each other, and
 * each reads all places. Fake devices share the host's memory, so a copy is a copy.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
enum { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, FLOAT32 = 7, PLACE = 1 << 20 };

typedef struct unique_id {
  char name[128];
} unique_id;

typedef struct shared {
  _Atomic unsigned arrived, generation;
  _Alignas(64) char places[]; /* [rank][PLACE] */
} shared;

typedef struct communicator {
  shared *all;
  size_t bytes;
  int rank, size;
} communicator;

EXPORT int ncclGetUniqueId(unique_id *id);
EXPORT int ncclCommInitRank(communicator **out, int size, unique_id id, int rank);
EXPORT int ncclCommDestroy(communicator *c);
EXPORT int ncclAllGather(const void *send, void *receive, size_t n, int type, communicator *c, void *stream);
EXPORT const char *ncclGetErrorString(int code);

static void meet(communicator *c)
{
  unsigned generation = atomic_load(&c->all->generation);
  if (atomic_fetch_add(&c->all->arrived, 1) + 1 == (unsigned)c->size) {
    atomic_store(&c->all->arrived, 0);
    atomic_fetch_add(&c->all->generation, 1);
    return;
  }
  while (atomic_load(&c->all->generation) == generation) (void)sched_yield();
}

int ncclGetUniqueId(unique_id *id)
{
  memset(id, 0, sizeof *id);
  (void)snprintf(id->name, sizeof id->name, "/nccl-on-cpu-%ld", (long)getpid());
  return SUCCESS;
}

int ncclCommInitRank(communicator **out, int size, unique_id id, int rank)
{
  communicator *c = calloc(1, sizeof *c);
  size_t bytes = sizeof(shared) + (size_t)size * PLACE;
  int fd = shm_open(id.name, O_RDWR | O_CREAT, 0600);
  *out = NULL;
  if (c == NULL || fd < 0 || ftruncate(fd, (off_t)bytes) != 0) return SYSTEM_ERROR;
  *c = (communicator){mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), bytes, rank, size};
  (void)close(fd);
  if (c->all == MAP_FAILED) return SYSTEM_ERROR;
  meet(c);
  if (rank == 0) (void)shm_unlink(id.name);
  *out = c;
  return SUCCESS;
}

int ncclCommDestroy(communicator *c)
{
  (void)munmap(c->all, c->bytes);
  free(c);
  return SUCCESS;
}

int ncclAllGather(const void *send, void *receive, size_t n, int type, communicator *c, void *stream)
{
  size_t bytes = n * sizeof(float);
  (void)stream;
  if (type != FLOAT32) return INVALID_ARGUMENT;
  for (size_t at = 0; at < bytes; at += PLACE) {
    size_t part = bytes - at < PLACE ? bytes - at : PLACE;
    memcpy(c->all->places + (size_t)c->rank * PLACE, (const char *)send + at, part);
    meet(c);
    for (int r = 0; r < c->size; r++)
      memcpy((char *)receive + (size_t)r * bytes + at, c->all->places + (size_t)r * PLACE, part);
    meet(c);
  }
  return SUCCESS;
}

const char *ncclGetErrorString(int code)
{
  return code == SYSTEM_ERROR ? "no shared memory" : "invalid argument";
}
