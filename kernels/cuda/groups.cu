/* groups.cu - columns that each have a matrix of their own, experts say, sorted by it.
 *
 * So the kernels for many rows read each matrix once for a tile of its columns, not once for each of them. Columns are
 * numbers in an array; one block of threads counts those of each matrix, gives each its place, and cuts the places into
 * tiles. In which order columns of one matrix come is left to chance: no result depends on its neighbours.
 */
#include "kernels/cuda/product.h"

using namespace aii;

enum {
  MOST_MATRICES = 1024,
  LEAST_COLUMNS = 2, /* of a matrix, on average, to be worth sorting */
  LEAST_TILE = 32    /* columns of the smallest tile there is */
};

/* Tiles of n columns: of each matrix the last one may have fewer. */
static size_t most_tiles(const aii_cuda_product &p, uint32_t most)
{
  return blocks_for(p.n, most) + (size_t)p.n_mats;
}

size_t aii_cuda_group_words(const aii_cuda_product *p)
{
  const size_t tiles = most_tiles(*p, LEAST_TILE);
  if (p->n_mats < 2 || p->n_mats > MOST_MATRICES || p->n / p->n_mats < LEAST_COLUMNS || tiles > MAX_GRID) return 0;
  return p->n + tiles * sizeof(group_tile) / sizeof(uint32_t);
}

/* counts [matrix] become where its columns begin. */
static __device__ void cut(const aii_cuda_product &p, uint32_t *counts, uint32_t most, uint32_t n_tiles)
{
  group_tile *tile = (group_tile *)(p.groups + p.n), *end = tile + n_tiles;
  uint32_t first = 0;
  for (uint32_t i = 0; i < p.n_mats; i++) {
    const uint32_t behind = first + counts[i];
    counts[i] = first;
    for (; first < behind; first = tile++->end) *tile = {first, min(first + most, behind), i};
  }
  while (tile < end) *tile++ = {0, 0, 0};
}

__global__ void __launch_bounds__(THREADS) sort_columns(aii_cuda_product p, uint32_t most, uint32_t n_tiles)
{
  begin_kernel();
  __shared__ uint32_t counts[MOST_MATRICES];
  for (uint32_t i = threadIdx.x; i < p.n_mats; i += THREADS) counts[i] = 0;
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < p.n; i += THREADS) atomicAdd(&counts[matrix_number(p, i)], 1u);
  __syncthreads();
  if (threadIdx.x == 0) cut(p, counts, most, n_tiles);
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < p.n; i += THREADS) p.groups[atomicAdd(&counts[matrix_number(p, i)], 1u)] = i;
}

uint32_t aii::tile_columns(aii_cuda_stream stream, const aii_cuda_product &p, uint32_t most)
{
  if (p.groups == NULL) return blocks_for(p.n, most);
  const uint32_t n_tiles = (uint32_t)most_tiles(p, most);
  AII_LAUNCH(sort_columns, 1, THREADS, stream, p, most, n_tiles);
  return n_tiles;
}
