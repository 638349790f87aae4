/* shortlist.c - rows of logits stay on the device: questions go there in one copy, answers come back in one.
 *
 * Questions: all that is asked, edits, then masks; a mask has a bit for every logit. Answers have the sizes that were asked for.
 */
#include "src/backend/cuda/cuda_backend.h"

_Static_assert(sizeof(aii_cuda_edit) == sizeof(aii_edit) && sizeof(aii_cuda_candidate) == sizeof(aii_candidate) &&
                   (int)AII_CUDA_RUN == (int)AII_LOGIT_RUN && (int)AII_CUDA_BEST == (int)AII_MAX_BEST,
               "kernels/cuda/cuda.h is not as backend.h has it");

/* Where things are, in bytes, but for n. */
typedef struct layout {
  uint32_t n, n_runs, mask_words;
  size_t edits, masks, asked; /* of the questions; asked: all */
  size_t told;                /* all answers */
  bool any_edits, any_weights;
} layout;

static size_t told_bytes(const aii_shortlist *row)
{
  return sizeof(aii_cuda_told) + row->n_best * sizeof(aii_candidate) + (row->draws ? AII_LOGIT_RUN * sizeof(float) : 0);
}

static layout lay_out(const aii_shortlist *rows, uint32_t n, uint32_t n_vocab)
{
  size_t n_edits = 0, n_masks = 0;
  layout l = {.n = n, .n_runs = (n_vocab - 1) / AII_LOGIT_RUN + 1, .mask_words = ((n_vocab - 1) / 64 + 1) * 2};
  for (uint32_t i = 0; i < n; i++) {
    n_edits += rows[i].n_edits;
    n_masks += rows[i].allowed != NULL;
    l.told += told_bytes(&rows[i]);
    l.any_weights = l.any_weights || rows[i].scale > 0;
  }
  l.any_edits = n_edits > 0;
  l.edits = n * sizeof(aii_cuda_ask);
  l.masks = l.edits + n_edits * sizeof(aii_edit);
  l.asked = l.masks + n_masks * l.mask_words * sizeof(uint32_t);
  return l;
}

/* Tokens behind the last that has a bit may come. */
static void fill_mask(const layout *l, const aii_shortlist *row, char *out)
{
  size_t n = row->n_allowed / 64, rest = row->n_allowed % 64;
  memset(out, 0xff, l->mask_words * sizeof(uint32_t));
  memcpy(out, row->allowed, n * sizeof(uint64_t));
  if (rest == 0) return;
  uint64_t last = row->allowed[n] | ~(uint64_t)0 << rest;
  memcpy(out + n * sizeof last, &last, sizeof last);
}

static void fill_questions(const layout *l, const aii_shortlist *rows, char *out)
{
  aii_cuda_ask *asks = (aii_cuda_ask *)(void *)out;
  size_t edit = 0, told = 0;
  int32_t mask = 0;
  for (uint32_t i = 0; i < l->n; i++) {
    const aii_shortlist *row = &rows[i];
    asks[i] = (aii_cuda_ask){.row = row->row,
                             .n_best = row->n_best,
                             .n_edits = row->n_edits,
                             .mask = row->allowed != NULL ? mask++ : AII_CUDA_NO_MASK,
                             .first_edit = edit,
                             .told_at = told,
                             .scale = row->scale,
                             .draws = row->draws,
                             .unit = row->unit};
    if (row->n_edits > 0) memcpy(out + l->edits + edit * sizeof(aii_edit), row->edits, row->n_edits * sizeof(aii_edit));
    if (row->allowed != NULL)
      fill_mask(l, row, out + l->masks + (size_t)asks[i].mask * l->mask_words * sizeof(uint32_t));
    edit += row->n_edits;
    told += told_bytes(row);
  }
}

static void read_answers(const layout *l, const char *told, aii_shortlist *rows)
{
  for (uint32_t i = 0; i < l->n; i++) {
    const aii_cuda_told *t = (const aii_cuda_told *)(const void *)told;
    rows[i].n = t->n;
    rows[i].best = (const aii_candidate *)(const void *)(t + 1);
    rows[i].total = t->total;
    rows[i].run = t->run;
    rows[i].at = t->at;
    rows[i].logits = (const float *)(const void *)(rows[i].best + rows[i].n_best);
    told += told_bytes(&rows[i]);
  }
}

static bool check(aii_cuda *cuda, uint32_t n_vocab, const aii_shortlist *rows, uint32_t n)
{
  bool good = n_vocab > 0;
  for (uint32_t i = 0; i < n; i++) {
    good = good && rows[i].n_best <= AII_MAX_BEST && (rows[i].allowed == NULL || rows[i].n_allowed <= n_vocab);
    for (uint32_t e = 0; e < rows[i].n_edits; e++) good = good && (uint32_t)rows[i].edits[e].token < n_vocab;
  }
  if (!good) aii_cuda_fail(cuda, AIINFRA_EINVAL, 0, "a shortlist of tokens that are not there, or of too many");
  return good;
}

/* False: told by sync(). */
static bool choose(aii_cuda *cuda, const layout *l, float *logits, uint32_t n_vocab, const aii_shortlist *rows)
{
  size_t cells = (size_t)l->n * l->n_runs;
  char *asked = aii_cuda_grow_host(cuda, &cuda->host_asked, l->asked, "host memory for what is asked of logits"),
       *told = aii_cuda_grow_host(cuda, &cuda->host_told, l->told, "host memory for what is told of logits"),
       *there = aii_cuda_grow(cuda, &cuda->asked, l->asked, "device memory for what is asked of logits"),
       *back = aii_cuda_grow(cuda, &cuda->told, l->told, "device memory for what is told of logits");
  uint32_t *tops =
      aii_cuda_grow(cuda, &cuda->scratch, cells * (sizeof *tops + sizeof(float)), "scratch memory for runs");
  if (asked == NULL || told == NULL || there == NULL || back == NULL || tops == NULL) return false;
  fill_questions(l, rows, asked);
  cudaError_t rc = cudaMemcpyAsync(there, asked, l->asked, cudaMemcpyHostToDevice, cuda->stream);
  if (!aii_cuda_check(cuda, rc, "what is asked of logits")) return false;
  aii_cuda_shortlist s = {.logits = logits,
                          .n_vocab = n_vocab,
                          .n = l->n,
                          .n_runs = l->n_runs,
                          .mask_words = l->mask_words,
                          .asks = (const aii_cuda_ask *)(void *)there,
                          .edits = (const aii_cuda_edit *)(void *)(there + l->edits),
                          .masks = (const uint32_t *)(void *)(there + l->masks),
                          .tops = tops,
                          .sums = (float *)(void *)(tops + cells),
                          .told = back};
  aii_cuda_choose(cuda->stream, &s, l->any_edits, l->any_weights);
  rc = cudaMemcpyAsync(told, back, l->told, cudaMemcpyDeviceToHost, cuda->stream);
  return aii_cuda_check(cuda, rc, "what is told of logits");
}

aiinfra_status aii_cuda_shortlist_rows(aii_backend *be, float *logits, uint32_t n_vocab, aii_shortlist *rows,
                                       uint32_t n, aiinfra_error *err)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (n == 0) return aii_cuda_sync(be, err);
  layout l = {.n = 0};
  if (cuda != NULL && check(cuda, n_vocab, rows, n)) {
    l = lay_out(rows, n, n_vocab);
    (void)choose(cuda, &l, logits, n_vocab, rows);
  }
  aiinfra_status rc = aii_cuda_sync(be, err);
  if (rc == AIINFRA_OK) read_answers(&l, aii_cuda_of(be)->host_told.ptr, rows);
  return rc;
}

void aii_cuda_shortlist_free(aii_cuda *cuda)
{
  (void)cudaFree(cuda->asked.ptr);
  (void)cudaFree(cuda->told.ptr);
  (void)cudaFreeHost(cuda->host_asked.ptr);
  (void)cudaFreeHost(cuda->host_told.ptr);
}
