/* test_cuda_shortlist.c - tokens by what the device tells of rows of logits, beside those that the rows themselves give.
 *
 * AIINFRA_CUDA_PLUGIN names the plug-in to test, by default the one whose kernels run on the CPU.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>

#include "src/model/model.h"
#include "tests/support/support.h"

enum { ROWS = 6, TO_HOST = 2 };

static aii_mem mem, device_mem;
static unsigned long long seed;
static aii_pool *pool;
static aii_backend *cuda;
static unsigned long long *copied; /* by the emulated device, by way; NULL: a real one */

static const char *plugin(void)
{
  const char *path = getenv("AIINFRA_CUDA_PLUGIN");
  return path != NULL ? path : test_built("libaiinfra-cuda-on-cpu.so");
}

static uint32_t below(uint32_t n)
{
  return (uint32_t)(test_random(&seed) % n);
}

/* ---- logits ---- */

enum { PEAKED, WIDE, FLAT, TIES, HOLES, ENDLESS, KINDS };

static void draw_logits(float *x, uint32_t n, int kind)
{
  for (uint32_t i = 0; i < n; i++) {
    double u = 0;
    for (int j = 0; j < 4; j++) u += (double)below(100000) * 1e-5;
    x[i] = (float)((u - 2) * (kind == PEAKED ? 2 : kind == WIDE ? 9 : 0.01));
    if (kind == PEAKED && i % 997 == 5) x[i] += 12;
    if (kind == TIES) x[i] = (float)(i % 7) - 3;
    if (kind == TIES && x[i] == 0 && i % 2 == 0) x[i] = -0.0f;
    if (kind == HOLES && i % 3 != 0) x[i] = i % 2 ? -INFINITY : NAN;
    if (kind == ENDLESS && i % 50 == 49) x[i] = INFINITY;
  }
}

static float *to_device(const float *x, uint32_t rows, uint32_t width)
{
  aiinfra_error err;
  aii_weight table = {.type = AII_F32, .n_in = width, .n_out = rows, .lookup = true, .source = x};
  const aiinfra_token tokens[ROWS] = {0, 1, 2, 3, 4, 5};
  aii_rows list = {.n_rows = rows, .tokens = tokens};
  void *device;
  assert_int_equal(cuda->ops->alloc(cuda, rows * width * sizeof(float), &device, &err), AIINFRA_OK);
  cuda->ops->embed(cuda, &table, &list, 1, device);
  assert_int_equal(cuda->ops->sync(cuda, &err), AIINFRA_OK);
  return device;
}

/* ---- a row's request ---- */

typedef struct request {
  aii_sampling how;
  aii_sampler *here, *there;
  aii_penalty *penalty_here, *penalty_there;
  aiinfra_token tokens[60];
  uint32_t n_tokens;
  uint64_t *allowed; /* NULL: all */
  uint32_t n_allowed;
} request;

static aii_sampling draw_sampling(uint32_t n_vocab)
{
  const float shares[] = {0, 0.3f, 0.9f, 0.95f, 0.999f}, least[] = {0, 0, 0.02f, 0.1f, 1};
  const int32_t ks[] = {0, 0, 1, 2, 40, 300, 1024};
  return (aii_sampling){.temperature = below(8) == 0 ? 0 : 0.1f * (float)(1 + below(15)),
                        .top_k = below(9) == 0 ? (int32_t)(n_vocab - below(3)) : ks[below(AII_COUNT(ks))],
                        .top_p = shares[below(AII_COUNT(shares))],
                        .min_p = least[below(AII_COUNT(least))],
                        .seed = test_random(&seed)};
}

static void make_penalties(request *r, uint32_t n_vocab)
{
  const float repeats[] = {0, 1, 1.3f, 0.7f};
  const aii_bias biases[] = {{3, 7.5f}, {0, -100}, {(aiinfra_token)n_vocab - 1, 2.25f}, {5, -3}};
  aii_penalty_want want = {.how = {.repeat = repeats[below(4)],
                                   .last_n = (int32_t)below(40) - 1,
                                   .presence = 0.1f * (float)below(20),
                                   .frequency = 0.1f * (float)below(9)},
                           .biases = biases,
                           .n_biases = below(5),
                           .n_vocab = n_vocab,
                           .n_prompt = 5 + below(20),
                           .max_total = AII_COUNT(r->tokens)};
  assert_int_equal(aii_penalty_create(&mem, &want, &r->penalty_here, NULL), AIINFRA_OK);
  assert_int_equal(aii_penalty_create(&mem, &want, &r->penalty_there, NULL), AIINFRA_OK);
  r->n_tokens = want.n_prompt + below(20);
  for (uint32_t i = 0; i < r->n_tokens; i++) r->tokens[i] = (aiinfra_token)below(n_vocab < 90 ? n_vocab : 90);
}

static void make_mask(request *r, uint32_t n_vocab)
{
  uint32_t one_in = 1u << below(12);
  r->n_allowed = n_vocab - below(AII_MIN(n_vocab, 80u));
  r->allowed = calloc(r->n_allowed / 64 + 1, sizeof *r->allowed);
  for (uint32_t i = 0; i < r->n_allowed; i++)
    if (below(one_in) == 0) r->allowed[i / 64] |= 1ull << (i % 64);
}

static request make_request(const aii_sampling *how, uint32_t n_vocab)
{
  request r = {.how = *how};
  assert_int_equal(aii_sampler_create(&mem, how, n_vocab, &r.here, NULL), AIINFRA_OK);
  assert_int_equal(aii_sampler_create(&mem, how, n_vocab, &r.there, NULL), AIINFRA_OK);
  if (below(2) == 0) make_penalties(&r, n_vocab);
  if (below(2) == 0) make_mask(&r, n_vocab);
  return r;
}

static void free_request(request *r)
{
  aii_sampler_free(r->here), aii_sampler_free(r->there);
  aii_penalty_free(r->penalty_here), aii_penalty_free(r->penalty_there);
  free(r->allowed);
}

static void mask(const request *r, float *x)
{
  for (uint32_t i = 0; r->allowed != NULL && i < r->n_allowed; i++)
    if ((r->allowed[i / 64] >> (i % 64) & 1) == 0) x[i] = -INFINITY;
}

static aiinfra_token pick_here(request *r, const float *x, float *scratch, uint32_t n_vocab)
{
  memcpy(scratch, x, n_vocab * sizeof *x);
  if (r->penalty_here != NULL) aii_penalty_apply(r->penalty_here, r->tokens, r->n_tokens, scratch);
  mask(r, scratch);
  return aii_sampler_pick(r->here, scratch);
}

static void ask(request *r, uint32_t row, aii_shortlist *list)
{
  *list = (aii_shortlist){.row = row, .allowed = r->allowed, .n_allowed = r->n_allowed};
  aii_sampler_ask(r->there, list);
  if (r->penalty_there != NULL)
    list->edits = aii_penalty_edits(r->penalty_there, r->tokens, r->n_tokens, &list->n_edits);
}

/* ---- beside each other ---- */

/* One step of some rows; returns how many had to be fetched. */
static uint32_t step(request *requests, uint32_t n, const float *x, uint32_t n_vocab, float *scratch)
{
  aiinfra_error err;
  aii_shortlist lists[ROWS];
  uint32_t fetched = 0;
  float *device = to_device(x, n, n_vocab);
  for (uint32_t i = 0; i < n; i++) ask(&requests[i], n - 1 - i, &lists[i]);
  if (cuda->ops->shortlist(cuda, device, n_vocab, lists, n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  for (uint32_t i = 0; i < n; i++) {
    request *r = &requests[i];
    aiinfra_token want = pick_here(r, x + (size_t)lists[i].row * n_vocab, scratch, n_vocab), got;
    if (!aii_sampler_take(r->there, &lists[i], &got)) {
      fetched++;
      const float *row = device + (size_t)lists[i].row * n_vocab;
      assert_int_equal(cuda->ops->to_host(cuda, scratch, row, n_vocab * sizeof *x, &err), AIINFRA_OK);
      mask(r, scratch);
      got = aii_sampler_pick_at(r->there, scratch, lists[i].unit);
    }
    if (got != want)
      fail_msg("token %d, should be %d: temperature %g, top_k %d, top_p %g, min_p %g of %u, seed %llu", got, want,
               (double)r->how.temperature, r->how.top_k, (double)r->how.top_p, (double)r->how.min_p, n_vocab,
               test_seed());
    if (r->n_tokens < AII_COUNT(r->tokens)) r->tokens[r->n_tokens++] = got;
  }
  cuda->ops->release(cuda, device, n * n_vocab * sizeof *x);
  return fetched;
}

static void test_same_tokens(void **state)
{
  (void)state;
  enum { CASES = 90, STEPS = 4, LARGEST = 5003 };
  const uint32_t sizes[] = {7, 64, 255, 1000, LARGEST};
  float *x = malloc(ROWS * LARGEST * sizeof *x), *scratch = malloc(LARGEST * sizeof *x);
  for (uint32_t c = 0; c < CASES; c++) {
    uint32_t n = 1 + below(ROWS), n_vocab = sizes[below(AII_COUNT(sizes))];
    request requests[ROWS];
    for (uint32_t i = 0; i < n; i++) {
      aii_sampling how = draw_sampling(n_vocab);
      requests[i] = make_request(&how, n_vocab);
    }
    for (uint32_t s = 0; s < STEPS; s++) {
      for (uint32_t i = 0; i < n; i++) draw_logits(x + (size_t)i * n_vocab, n_vocab, (int)below(KINDS));
      (void)step(requests, n, x, n_vocab, scratch);
    }
    for (uint32_t i = 0; i < n; i++) free_request(&requests[i]);
  }
  free(x), free(scratch);
  assert_int_equal(mem.used_bytes, 0);
}

/* Where few tokens stand out, as a model has it, no row travels, whatever is asked for. */
static void test_little_travels(void **state)
{
  (void)state;
  enum { VOCAB = 40009, STEPS = 3 };
  const aii_sampling hows[] = {{.temperature = 0},
                               {.temperature = 1},
                               {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f},
                               {.temperature = 0.8f, .top_p = 0.95f},
                               {.temperature = 0.8f, .min_p = 0.05f},
                               {.temperature = 1, .top_p = 0.9f, .min_p = 0.01f}};
  float *x = malloc(ROWS * VOCAB * sizeof *x), *scratch = malloc(VOCAB * sizeof *x);
  request requests[ROWS];
  unsigned long long before = copied != NULL ? copied[TO_HOST] : 0;
  for (uint32_t i = 0; i < ROWS; i++) {
    requests[i] = make_request(&hows[i], VOCAB);
    free(requests[i].allowed);
    requests[i].allowed = NULL;
  }
  for (uint32_t s = 0; s < STEPS; s++) {
    for (uint32_t i = 0; i < ROWS; i++) draw_logits(x + (size_t)i * VOCAB, VOCAB, PEAKED);
    assert_int_equal(step(requests, ROWS, x, VOCAB, scratch), 0);
  }
  for (uint32_t i = 0; i < ROWS; i++) free_request(&requests[i]);
  if (copied != NULL) assert_in_range(copied[TO_HOST] - before, 1, (size_t)STEPS * ROWS * VOCAB * sizeof *x / 50);
  free(x), free(scratch);
}

static void test_refusals(void **state)
{
  (void)state;
  enum { VOCAB = 300 };
  const aii_edit bad = {.token = VOCAB, .divide = 1};
  const uint64_t bits[8] = {0};
  const aii_shortlist rows[] = {{.n_best = AII_MAX_BEST + 1},
                                {.n_best = 1, .edits = &bad, .n_edits = 1},
                                {.n_best = 1, .allowed = bits, .n_allowed = VOCAB + 1}};
  aiinfra_error err;
  float x[VOCAB] = {0}, *device = to_device(x, 1, VOCAB);
  for (size_t i = 0; i < AII_COUNT(rows); i++) {
    aii_shortlist row = rows[i];
    assert_int_equal(cuda->ops->shortlist(cuda, device, VOCAB, &row, 1, &err), AIINFRA_EINVAL);
    assert_int_equal(cuda->ops->sync(cuda, &err), AIINFRA_OK);
  }
  aii_shortlist none = {.n_best = 3, .allowed = bits, .n_allowed = VOCAB}; /* nothing may come */
  assert_int_equal(cuda->ops->shortlist(cuda, device, VOCAB, &none, 1, &err), AIINFRA_OK);
  assert_int_equal(none.n, 0);
  assert_int_equal(cuda->ops->shortlist(cuda, device, VOCAB, NULL, 0, &err), AIINFRA_OK);
  cuda->ops->release(cuda, device, sizeof x);
}

static int set_up(void **state)
{
  (void)state;
  aiinfra_error err;
  aii_mem_init(&mem, NULL, 0);
  aii_mem_init(&device_mem, NULL, 0);
  seed = test_seed();
  assert_int_equal(aii_pool_create(&device_mem, 2, AII_POOL_CROWD, &pool, &err), AIINFRA_OK);
  if (aii_cuda_backend_create(&device_mem, pool, plugin(), 0, &cuda, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  void *library = dlopen(plugin(), RTLD_NOW | RTLD_NOLOAD);
  copied = library != NULL ? dlsym(library, "fake_cuda_copied") : NULL;
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  cuda->ops->destroy(cuda);
  aii_pool_free(pool);
  assert_int_equal(device_mem.used_bytes, 0);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_same_tokens),
      cmocka_unit_test(test_little_travels),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
