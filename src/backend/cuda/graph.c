/* graph.c - passes that come again: what they launch is kept as a graph, and one call launches it all.
 *
 * A decode step differs from the one before in tokens, positions and block tables. These lie in device memory, which
 * stage.c fills before each step. Two numbers that launches are told follow from them: the width of the tables and the
 * splits of attention. They are rounded up to powers of two, so that they seldom change, and are part of the key. What else
 * launches are told depends on memory that is there: when some of it is moved or freed, the epoch changes, and what was
 * kept before is not used any more.
 *
 *   NEW --the first time: plain--> SEEN --the second: captured--> KEPT --launched, again and again
 *                                    └────capturing failed────> PLAIN
 *
 * The first time lets scratch memory grow, and another epoch makes it NEW. While a pass is captured nothing waits, copies or allocates: CUDA refuses it,
 * which spoils the capture instead of failing the pass, and the pass is computed plainly.
 */
#include "src/backend/cuda/cuda_backend.h"

uint32_t aii_cuda_rounded(uint32_t n)
{
  uint32_t power = 1;
  while (power < n) power *= 2;
  return power;
}

static void drop(aii_cuda_graph *g)
{
  if (g->exec != NULL) (void)cudaGraphExecDestroy(g->exec);
  *g = (aii_cuda_graph){.exec = NULL};
}

/* The one of that key, or the one that was used longest ago, made new. */
static aii_cuda_graph *graph_of(aii_cuda *cuda, const aii_cuda_key *key)
{
  aii_cuda_graph *oldest = &cuda->graphs[0], *found = NULL;
  for (uint32_t i = 0; i < AII_CUDA_GRAPHS && found == NULL; i++) {
    aii_cuda_graph *g = &cuda->graphs[i];
    if (memcmp(&g->key, key, sizeof *key) == 0) found = g;
    if (g->used < oldest->used) oldest = g;
  }
  if (found == NULL || found->epoch != cuda->epoch) {
    found = found != NULL ? found : oldest;
    drop(found);
    found->key = *key;
    found->epoch = cuda->epoch;
  }
  found->used = ++cuda->n_steps;
  return found;
}

/* Whether the angles that it uses are those of all positions of the step. */
static bool has_angles(const aii_cuda *cuda, const aii_cuda_graph *g, uint32_t end)
{
  bool has = true;
  for (uint32_t i = 0; i < AII_CUDA_ROPES; i++) has = has && ((g->ropes >> i & 1) == 0 || cuda->ropes[i].n_pos >= end);
  return has;
}

static void capture(aii_cuda *cuda)
{
  cuda->captures = cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess;
  cuda->spoiled = false;
  if (!cuda->captures) (void)cudaGetLastError();
}

bool aii_cuda_again(aii_backend *be, const aii_repeat *what, const aii_rows *rows)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  aii_cuda_rows where;
  uint32_t end = 0;
  if (cuda == NULL || !aii_cuda_stage(cuda, rows, what->block_tokens, &where)) return false;
  for (uint32_t r = 0; r < rows->n_rows; r++) end = AII_MAX(end, rows->pos[r] + 1);
  aii_cuda_key key = {*what, where.table_stride, aii_cuda_rounded((end - 1) / AII_CUDA_SPLIT + 1)};
  aii_cuda_graph *g = graph_of(cuda, &key);
  if (g->state == AII_CUDA_KEPT && has_angles(cuda, g, end)) {
    (void)aii_cuda_check(cuda, cudaGraphLaunch(g->exec, cuda->stream), "a graph of kernels");
    return true;
  }
  cuda->step = g;
  if (g->state == AII_CUDA_SEEN) capture(cuda);
  return false;
}

/* Ends a capture and launches what it is; false: there is nothing to launch. */
static bool launch_captured(aii_cuda *cuda, aii_cuda_graph *g)
{
  cudaGraph_t graph = NULL;
  cuda->captures = false;
  bool good = cudaGetLastError() == cudaSuccess; /* all launches */
  good = cudaStreamEndCapture(cuda->stream, &graph) == cudaSuccess && good && !cuda->spoiled;
  cuda->spoiled = false;
  good = good && cudaGraphInstantiateWithFlags(&g->exec, graph, 0) == cudaSuccess;
  good = good && cudaGraphLaunch(g->exec, cuda->stream) == cudaSuccess;
  if (graph != NULL) (void)cudaGraphDestroy(graph);
  if (!good) (void)cudaGetLastError();
  return good;
}

bool aii_cuda_keep(aii_backend *be)
{
  aii_cuda *cuda = aii_cuda_of(be);
  aii_cuda_graph *g = cuda->step;
  if (g == NULL) return true;
  if (cuda->captures) {
    bool good = launch_captured(cuda, g);
    g->state = good ? AII_CUDA_KEPT : AII_CUDA_PLAIN;
    if (!good) return false; /* g is still the step: now plainly */
  } else if (g->state == AII_CUDA_NEW) {
    g->state = AII_CUDA_SEEN;
    g->epoch = cuda->epoch; /* what grew has grown */
  }
  cuda->step = NULL;
  return true;
}

void aii_cuda_graphs_free(aii_cuda *cuda)
{
  for (uint32_t i = 0; i < AII_CUDA_GRAPHS; i++) drop(&cuda->graphs[i]);
}
