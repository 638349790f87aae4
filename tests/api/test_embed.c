/* test_embed.c - embeddings as a host sees them: pooling, scaling, shortening, long lists of mixed lengths in one call, and
 * how they end when something goes wrong.
 */
#include "stories.h"

#include <math.h>

#include "tests/data/gguf_maker.h"

enum { N_TEXTS = 6, WIDTH = 16, CONTEXT = 96, N_LONG = 150 };

typedef struct vectors {
  float v[N_LONG][WIDTH];
  uint32_t n_tokens[N_LONG];
  char message[AIINFRA_ERROR_MESSAGE_MAX];
  aiinfra_embed_result result; /* its pointers are not valid */
  aiinfra_status status;
  int ended;
  aiinfra_request *request;
} vectors;

static const char *const texts[N_TEXTS] = {"", "a", "The big dog", "Lily and Ben went to the park. They", "The big dog",
                                           " "};
static stories s;

static void open_model(uint32_t pooling, const aiinfra_batcher_opts *opts)
{
  gm_shape shape = {.arch = "llama",
                    .n_vocab = 263,
                    .n_embd = WIDTH,
                    .n_layers = 2,
                    .n_heads = 4,
                    .n_kv_heads = 2,
                    .head_dim = 4,
                    .n_ff = 24,
                    .n_rot = 4,
                    .context = CONTEXT,
                    .pooling = pooling,
                    .seed = 3};
  size_t n;
  uint8_t *bytes = gm_model(&shape, &n);
  assert_int_equal(test_write_file(test_tmp("model.gguf"), bytes, n), 0);
  free(bytes);
  memset(&s, 0, sizeof s);
  MUST(aiinfra_runtime_create(NULL, &s.rt, &stories_err));
  MUST(aiinfra_model_open(s.rt, test_tmp("model.gguf"), NULL, &s.model, &stories_err));
  MUST(aiinfra_kv_create(s.model, NULL, &s.kv, &stories_err));
  MUST(aiinfra_batcher_create(s.model, s.kv, opts, &s.batcher, &stories_err));
}

static void on_result(void *user, aiinfra_status status, const aiinfra_embed_result *r)
{
  vectors *out = user;
  uint64_t total = 0;
  out->ended++;
  out->status = status;
  out->result = *r;
  assert_true((r->error != NULL) == (status != AIINFRA_OK));
  assert_true((r->vectors != NULL) == (status == AIINFRA_OK));
  if (r->error != NULL) memcpy(out->message, r->error->message, sizeof out->message);
  for (size_t i = 0; i < r->n_texts; i++) {
    memcpy(out->v[i], r->vectors + i * r->n_dims, r->n_dims * sizeof(float));
    out->n_tokens[i] = r->n_tokens[i];
    total += r->n_tokens[i];
  }
  if (status == AIINFRA_OK) assert_int_equal(total, r->total_tokens);
}

static aiinfra_embed_opts options(const char *const *list, size_t n)
{
  aiinfra_embed_opts opts = AIINFRA_EMBED_OPTS_INIT;
  opts.texts = list;
  opts.n_texts = n;
  return opts;
}

static void embed(const aiinfra_embed_opts *opts, vectors *out)
{
  memset(out, 0, sizeof *out);
  MUST(aiinfra_batcher_embed_texts(s.batcher, opts, on_result, out, &out->request, &stories_err));
  assert_int_equal(out->ended, 0); /* never inside the call */
  aiinfra_status rc = aiinfra_request_wait(out->request, 600000, &stories_err);
  aiinfra_request_free(out->request);
  assert_int_equal(out->ended, 1);
  assert_int_equal(rc, out->status);
}

static void embed_with(int32_t pooling, int32_t normalize, uint32_t dimensions, vectors *out)
{
  aiinfra_embed_opts opts = options(texts, N_TEXTS);
  opts.pooling = pooling;
  opts.normalize = normalize;
  opts.dimensions = dimensions;
  embed(&opts, out);
  assert_int_equal(out->status, AIINFRA_OK);
  assert_int_equal(out->result.n_texts, N_TEXTS);
  assert_int_equal(out->result.n_dims, dimensions != 0 ? dimensions : WIDTH);
}

static double length(const float *v, size_t n)
{
  double squares = 0;
  for (size_t i = 0; i < n; i++) squares += (double)v[i] * (double)v[i];
  return sqrt(squares);
}

static void test_pooling(void **state)
{
  (void)state;
  static vectors mean, cls, last;
  open_model(0, NULL);
  embed_with(AIINFRA_POOLING_MEAN, -1, 0, &mean);
  embed_with(AIINFRA_POOLING_CLS, -1, 0, &cls);
  embed_with(AIINFRA_POOLING_LAST, -1, 0, &last);
  assert_int_equal(mean.n_tokens[0], 1); /* BOS alone: all the same */
  assert_memory_equal(mean.v[0], cls.v[0], sizeof mean.v[0]);
  assert_memory_equal(mean.v[0], last.v[0], sizeof mean.v[0]);
  for (int i = 1; i < N_TEXTS; i++) /* attention is causal: the first token knows nothing of the others */
    assert_memory_equal(cls.v[i], cls.v[0], sizeof cls.v[0]);
  assert_memory_not_equal(last.v[2], last.v[3], sizeof last.v[2]);
  assert_memory_equal(mean.v[2], mean.v[4], sizeof mean.v[2]); /* the same text */
  /* "a" and a blank are three tokens each, of which the first two are the same */
  assert_int_equal(mean.n_tokens[1], 3);
  assert_int_equal(mean.n_tokens[5], 3);
  for (int i = 0; i < WIDTH; i++) {
    double by_last = ((double)last.v[1][i] - (double)last.v[5][i]) / 3;
    assert_true(fabs((double)mean.v[1][i] - (double)mean.v[5][i] - by_last) < 1e-6);
  }
  stories_close(&s);
}

static void test_the_file_chooses(void **state)
{
  (void)state;
  static vectors none, wanted;
  for (uint32_t pooling = 0; pooling <= 4; pooling++) {
    int32_t same = pooling >= 1 && pooling <= 3 ? (int32_t)pooling : AIINFRA_POOLING_MEAN;
    open_model(pooling, NULL);
    embed_with(AIINFRA_POOLING_DEFAULT, 0, 0, &none);
    embed_with(same, 1, 0, &wanted);
    assert_memory_equal(none.v, wanted.v, sizeof none.v);
    stories_close(&s);
  }
}

static void test_length_and_dimensions(void **state)
{
  (void)state;
  static vectors raw, unit, cut, raw_cut;
  open_model(0, NULL);
  embed_with(0, -1, 0, &raw);
  embed_with(0, 0, 0, &unit);
  embed_with(0, 1, 5, &cut);
  embed_with(0, -1, 5, &raw_cut);
  for (int i = 0; i < N_TEXTS; i++) {
    assert_true(fabs(length(unit.v[i], WIDTH) - 1) < 1e-6);
    assert_true(fabs(length(cut.v[i], 5) - 1) < 1e-6);
    assert_true(fabs(length(raw.v[i], WIDTH) - 1) > 1e-3);
    assert_memory_equal(raw_cut.v[i], raw.v[i], 5 * sizeof(float));
    for (int d = 0; d < WIDTH; d++)
      assert_true(fabs((double)raw.v[i][d] / length(raw.v[i], WIDTH) - (double)unit.v[i][d]) < 1e-6);
    for (int d = 0; d < 5; d++)
      assert_true(fabs((double)raw.v[i][d] / length(raw.v[i], 5) - (double)cut.v[i][d]) < 1e-6);
  }
  stories_close(&s);
}

/* More texts than run and wait at once, of all lengths, in small steps: the vectors are those of each text alone. */
static void test_long_lists(void **state)
{
  (void)state;
  static const char letters[] = "the quick brown fox jumps over the lazy dog and then it sleeps";
  static char text[N_LONG][80];
  static const char *list[N_LONG];
  static vectors together, alone;
  aiinfra_batcher_opts opts = AIINFRA_BATCHER_OPTS_INIT;
  opts.max_running = 3;
  opts.max_queue = 4;
  opts.max_step_tokens = 20;
  for (int i = 0; i < N_LONG; i++) {
    snprintf(text[i], sizeof text[i], "%d%.*s", i % 50, i * 7 % 60, letters);
    list[i] = text[i];
  }
  open_model(AIINFRA_POOLING_LAST, &opts);
  for (int32_t pooling = AIINFRA_POOLING_MEAN; pooling <= AIINFRA_POOLING_LAST; pooling++) {
    aiinfra_embed_opts many = options(list, N_LONG), one = options(list, 1);
    many.pooling = one.pooling = pooling;
    embed(&many, &together);
    assert_int_equal(together.status, AIINFRA_OK);
    for (int i = 0; i < N_LONG; i += 29) {
      one.texts = list + i;
      embed(&one, &alone);
      assert_memory_equal(alone.v[0], together.v[i], sizeof alone.v[0]);
      assert_int_equal(alone.n_tokens[0], together.n_tokens[i]);
    }
  }
  stories_close(&s);
}

/* Many lists at once: all are served, though their texts find the queue full. */
static void test_many_lists(void **state)
{
  (void)state;
  static vectors out[6];
  const char *list[20];
  aiinfra_batcher_opts opts = AIINFRA_BATCHER_OPTS_INIT;
  opts.max_running = 2;
  opts.max_queue = 4;
  for (int i = 0; i < 20; i++) list[i] = texts[i % N_TEXTS];
  open_model(0, &opts);
  aiinfra_embed_opts many = options(list, 20);
  int n = 0;
  for (; n < 6; n++) {
    memset(&out[n], 0, sizeof out[n]);
    aiinfra_status rc =
        aiinfra_batcher_embed_texts(s.batcher, &many, on_result, &out[n], &out[n].request, &stories_err);
    if (rc == AIINFRA_OK) continue;
    assert_int_equal(rc, AIINFRA_EBUSY);
    assert_null(out[n].request);
    break;
  }
  assert_true(n >= 2 && n < 6);
  for (int i = 0; i < n; i++) {
    MUST(aiinfra_request_wait(out[i].request, 60000, &stories_err));
    aiinfra_request_free(out[i].request);
    assert_memory_equal(out[i].v, out[0].v, sizeof out[0].v);
  }
  stories_close(&s);
}

/* ---- what goes wrong ----------------------------------------------------------------------------------------------------- */

static void refused(const aiinfra_embed_opts *opts, aiinfra_status wanted, const char *said)
{
  aiinfra_error err;
  aiinfra_request *request = (aiinfra_request *)(void *)&err;
  assert_int_equal(aiinfra_batcher_embed_texts(s.batcher, opts, on_result, NULL, &request, &err), wanted);
  assert_null(request);
  if (strstr(err.message, said) == NULL) fail_msg("\"%s\" does not say \"%s\"", err.message, said);
  assert_int_equal(aiinfra_batcher_embed_texts(s.batcher, opts, NULL, NULL, NULL, NULL), wanted);
}

static char long_text[4 * CONTEXT];

static void test_refusals(void **state)
{
  (void)state;
  const char *list[3] = {"a", NULL, "b"};
  open_model(0, NULL);
  aiinfra_embed_opts opts = options(list, 0);
  assert_int_equal(aiinfra_batcher_embed_texts(NULL, &opts, NULL, NULL, NULL, &stories_err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_batcher_embed_texts(s.batcher, NULL, NULL, NULL, NULL, &stories_err), AIINFRA_EINVAL);
  refused(&opts, AIINFRA_EINVAL, "no text");
  opts.n_texts = 3;
  refused(&opts, AIINFRA_EINVAL, "texts[1] is NULL");
  opts.n_texts = 1;
  opts.dimensions = WIDTH + 1;
  refused(&opts, AIINFRA_EINVAL, "the model's vectors have 16");
  opts.dimensions = 0;
  opts.pooling = 4;
  refused(&opts, AIINFRA_EINVAL, "pooling is 4");
  opts.pooling = 0;
  opts.normalize = 2;
  refused(&opts, AIINFRA_EINVAL, "normalize is 2");
  opts.normalize = 0;
  list[0] = long_text;
  refused(&opts, AIINFRA_EINVAL, "the model's context has 96");
  opts.n_texts = 2;
  list[1] = "b";
  refused(&opts, AIINFRA_EINVAL, "texts[0]: the prompt has");
  opts.struct_size = 8;
  refused(&opts, AIINFRA_EINVAL, "struct_size");
  stories_close(&s);
}

static void test_a_bad_text_ends_the_list(void **state)
{
  (void)state;
  static vectors out;
  const char *list[N_LONG];
  aiinfra_batcher_opts batcher_opts = AIINFRA_BATCHER_OPTS_INIT;
  batcher_opts.max_running = 4;
  open_model(0, &batcher_opts);
  for (int i = 0; i < N_LONG; i++) list[i] = texts[3];
  for (int bad = 1; bad < N_LONG; bad += 49) {
    list[bad] = long_text;
    aiinfra_embed_opts opts = options(list, N_LONG);
    embed(&opts, &out);
    assert_int_equal(out.status, AIINFRA_EINVAL);
    char said[32];
    snprintf(said, sizeof said, "texts[%d]: ", bad);
    assert_non_null(strstr(out.message, said));
    list[bad] = texts[3];
  }
  stories_close(&s);
}

static void cancel_in_a_chunk(void *user, const aiinfra_chunk *chunk)
{
  (void)chunk;
  aiinfra_request_cancel(*(aiinfra_request **)user);
}

static void test_cancel_and_deadline(void **state)
{
  (void)state;
  static vectors out;
  const char *list[N_LONG];
  aiinfra_batcher_opts batcher_opts = AIINFRA_BATCHER_OPTS_INIT;
  batcher_opts.max_running = 2;
  batcher_opts.max_step_tokens = 4;
  open_model(0, &batcher_opts);
  for (int i = 0; i < N_LONG; i++) list[i] = texts[3];
  aiinfra_embed_opts opts = options(list, N_LONG);
  aiinfra_generate_opts ask = AIINFRA_GENERATE_OPTS_INIT;
  ask.text = "a";
  ask.max_tokens = 1;
  ask.ignore_eos = 1;
  ask.priority = 1;
  MUST(aiinfra_batcher_generate(s.batcher, &ask, cancel_in_a_chunk, NULL, &out.request, NULL, &stories_err));
  embed(&opts, &out);
  assert_int_equal(out.status, AIINFRA_ECANCELED);
  opts.deadline_ms = 1;
  embed(&opts, &out);
  assert_int_equal(out.status, AIINFRA_ETIMEDOUT);
  assert_non_null(strstr(out.message, "deadline"));
  stories_close(&s);
}

static void free_in_the_callback(void *user, aiinfra_status status, const aiinfra_embed_result *result)
{
  on_result(user, status, result);
  aiinfra_batcher_free(s.batcher);
  s.batcher = NULL;
}

static void test_ends_with_the_batcher(void **state)
{
  (void)state;
  static vectors out[2];
  const char *list[N_LONG];
  aiinfra_embed_opts opts = options(list, N_LONG);
  for (int i = 0; i < N_LONG; i++) list[i] = texts[3];
  open_model(0, NULL);
  memset(out, 0, sizeof out);
  MUST(aiinfra_batcher_embed_texts(s.batcher, &opts, on_result, &out[0], NULL, &stories_err));
  aiinfra_batcher_free(s.batcher);
  s.batcher = NULL;
  MUST(aiinfra_runtime_run(s.rt, &stories_err)); /* until nothing is left to do */
  assert_int_equal(out[0].ended, 1);
  assert_int_equal(out[0].status, AIINFRA_ECANCELED);
  stories_close(&s);

  open_model(0, NULL);
  memset(out, 0, sizeof out);
  opts.n_texts = 1;
  MUST(aiinfra_batcher_embed_texts(s.batcher, &opts, free_in_the_callback, &out[0], NULL, &stories_err));
  opts.n_texts = N_LONG;
  MUST(aiinfra_batcher_embed_texts(s.batcher, &opts, on_result, &out[1], NULL, &stories_err));
  MUST(aiinfra_runtime_run(s.rt, &stories_err));
  assert_int_equal(out[0].status, AIINFRA_OK);
  assert_int_equal(out[1].ended, 1);
  assert_int_equal(out[1].status, AIINFRA_ECANCELED);
  stories_close(&s);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_pooling),
      cmocka_unit_test(test_the_file_chooses),
      cmocka_unit_test(test_length_and_dimensions),
      cmocka_unit_test(test_long_lists),
      cmocka_unit_test(test_many_lists),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_a_bad_text_ends_the_list),
      cmocka_unit_test(test_cancel_and_deadline),
      cmocka_unit_test(test_ends_with_the_batcher),
  };
  memset(long_text, 'x', sizeof long_text - 1);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
