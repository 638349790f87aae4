/* mpi.c - the communicator over MPI: ranks are the processes that mpirun started.
 *
 * Sums are made of what all ranks have, in the order of ranks, so that every rank has the same bits and a row's sum does
 * not depend on the rows beside it, which MPI's own sums do not promise.
 */
#include <limits.h>
#include <mpi.h>
#include <time.h>

#include "src/backend/plugin.h"

typedef struct mpi_comm {
  aii_comm base;
  aii_mem *mem;
  MPI_Comm world;
  float *all; /* [size][n_all] */
  size_t n_all;
} mpi_comm;

static mpi_comm *of(aii_comm *comm)
{
  return AII_CONTAINER(comm, mpi_comm, base);
}

static aiinfra_status told(aiinfra_error *err, int code, const char *what)
{
  char text[MPI_MAX_ERROR_STRING];
  int n = 0;
  if (MPI_Error_string(code, text, &n) != MPI_SUCCESS) n = 0;
  return aii_fail_code(err, AIINFRA_EDEVICE, code, "%s among the ranks: %.*s", what, n, text);
}

enum { SPIN_NS = 100 * 1000, NAP_NS = 30 * 1000 };

/* MPI's own waiting never sleeps: with more ranks than cores they would keep each other from working. */
static int wait_for(MPI_Request *request)
{
  uint64_t began = aii_now_ns();
  int done = 0, code = MPI_Test(request, &done, MPI_STATUS_IGNORE);
  while (code == MPI_SUCCESS && done == 0) {
    if (aii_now_ns() - began > SPIN_NS) (void)nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    code = MPI_Test(request, &done, MPI_STATUS_IGNORE);
  }
  return code;
}

static aiinfra_status mpi_tell(aii_comm *comm, void *bytes, size_t n, aiinfra_error *err)
{
  for (char *p = bytes; n > 0;) {
    int part = (int)AII_MIN(n, (size_t)INT_MAX);
    MPI_Request request;
    int code = MPI_Ibcast(p, part, MPI_BYTE, 0, of(comm)->world, &request);
    if (code == MPI_SUCCESS) code = wait_for(&request);
    if (code != MPI_SUCCESS) return told(err, code, "a message");
    p += part;
    n -= (size_t)part;
  }
  return AIINFRA_OK;
}

static aiinfra_status reserve(mpi_comm *c, size_t n, aiinfra_error *err)
{
  size_t total;
  if (n <= c->n_all) return AIINFRA_OK;
  if (n > INT_MAX) return aii_fail(err, AIINFRA_ELIMIT, "%zu numbers of a rank at once", n);
  aii_del(c->mem, c->all, c->n_all * c->base.size * sizeof(float));
  c->all = NULL;
  c->n_all = 0;
  if (aii_size_mul(n, c->base.size, &total)) c->all = aii_new_array(c->mem, total, sizeof(float));
  if (c->all == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu numbers of every rank", n);
  c->n_all = n;
  return AIINFRA_OK;
}

static aiinfra_status mpi_sum(aii_comm *comm, float *x, size_t n, aiinfra_error *err)
{
  mpi_comm *c = of(comm);
  aiinfra_status rc = reserve(c, n, err);
  if (rc != AIINFRA_OK) return rc;
  MPI_Request request;
  int code = MPI_Iallgather(x, (int)n, MPI_FLOAT, c->all, (int)n, MPI_FLOAT, c->world, &request);
  if (code == MPI_SUCCESS) code = wait_for(&request);
  if (code != MPI_SUCCESS) return told(err, code, "a sum");
  memcpy(x, c->all, n * sizeof *x);
  for (uint32_t r = 1; r < comm->size; r++)
    for (size_t i = 0; i < n; i++) x[i] += c->all[r * n + i];
  return AIINFRA_OK;
}

static aiinfra_status mpi_collect(aii_comm *comm, const float *x, const size_t *counts, float *out, aiinfra_error *err)
{
  mpi_comm *c = of(comm);
  MPI_Request request;
  int code = MPI_SUCCESS;
  for (uint32_t r = 0; r < comm->size; r++)
    if (counts[r] > INT_MAX) return aii_fail(err, AIINFRA_ELIMIT, "%zu numbers of a rank at once", counts[r]);
  if (comm->rank != 0) {
    code = MPI_Isend(x, (int)counts[comm->rank], MPI_FLOAT, 0, 0, c->world, &request);
    if (code == MPI_SUCCESS) code = wait_for(&request);
  } else {
    if (out != x) memcpy(out, x, counts[0] * sizeof *x);
  }
  for (uint32_t r = 1; comm->rank == 0 && r < comm->size && code == MPI_SUCCESS; r++) {
    out += counts[r - 1];
    code = MPI_Irecv(out, (int)counts[r], MPI_FLOAT, (int)r, 0, c->world, &request);
    if (code == MPI_SUCCESS) code = wait_for(&request);
  }
  return code == MPI_SUCCESS ? AIINFRA_OK : told(err, code, "results");
}

static void mpi_destroy(aii_comm *comm)
{
  mpi_comm *c = of(comm);
  aii_del(c->mem, c->all, c->n_all * comm->size * sizeof(float));
  (void)MPI_Comm_free(&c->world);
  aii_del(c->mem, c, sizeof *c);
}

static const aii_comm_ops mpi_ops = {
    .name = "mpi", .destroy = mpi_destroy, .tell = mpi_tell, .sum = mpi_sum, .collect = mpi_collect};

static bool ours; /* began here */

/* With the process. */
__attribute__((destructor)) static void finalize(void)
{
  int done = 0;
  if (ours && MPI_Finalized(&done) == MPI_SUCCESS && done == 0) (void)MPI_Finalize();
}

/* MPI ends with the process, unless the host began it. */
static aiinfra_status begin(aiinfra_error *err)
{
  int begun = 0, level = MPI_THREAD_SINGLE, code = MPI_Initialized(&begun);
  if (code == MPI_SUCCESS && begun == 0) {
    code = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level);
    ours = code == MPI_SUCCESS;
  } else if (code == MPI_SUCCESS) {
    code = MPI_Query_thread(&level);
  }
  if (code != MPI_SUCCESS) return aii_fail(err, AIINFRA_ENOTSUP, "MPI does not start: run the program by mpirun");
  if (level < MPI_THREAD_SERIALIZED)
    return aii_fail(err, AIINFRA_ENOTSUP, "MPI was started for one thread alone: ask for MPI_THREAD_SERIALIZED");
  return AIINFRA_OK;
}

/* 0 where MPI cannot tell. */
static uint32_t neighbour_of(MPI_Comm world)
{
  MPI_Comm machine;
  int number = 0;
  if (MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine) != MPI_SUCCESS) return 0;
  (void)MPI_Comm_rank(machine, &number);
  (void)MPI_Comm_free(&machine);
  return (uint32_t)number;
}

static aiinfra_status create(aii_mem *mem, aii_comm **out, aiinfra_error *err)
{
  int rank = 0, size = 1;
  *out = NULL;
  aiinfra_status rc = begin(err);
  if (rc != AIINFRA_OK) return rc;
  mpi_comm *c = aii_new(mem, sizeof *c);
  if (c == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a communicator");
  c->mem = mem;
  int code = MPI_Comm_dup(MPI_COMM_WORLD, &c->world);
  if (code != MPI_SUCCESS) {
    aii_del(mem, c, sizeof *c);
    return told(err, code, "a communicator");
  }
  (void)MPI_Comm_set_errhandler(c->world, MPI_ERRORS_RETURN);
  (void)MPI_Comm_rank(c->world, &rank);
  (void)MPI_Comm_size(c->world, &size);
  c->base = (aii_comm){&mpi_ops, (uint32_t)rank, (uint32_t)size, neighbour_of(c->world)};
  *out = &c->base;
  return AIINFRA_OK;
}

__attribute__((visibility("default"))) const aii_plugin_head *aii_mpi_plugin_table(void);
const aii_plugin_head *aii_mpi_plugin_table(void)
{
  static const aii_mpi_plugin table = {AII_PLUGIN_HEAD, create};
  return &table.head;
}
