/* test_rerank.c - reranking as a host sees it. The head's rows are rows of the output matrix, so that its scores are
 * logits, which an evaluator gives as well.
 */
#include "stories.h"

#include <math.h>

#include "aiinfra/eval.h"
#include "tests/data/gguf_maker.h"

enum { CONTEXT = 160, N_VOCAB = 263, N_DOCUMENTS = 4, YES = 77, NO = 140 };

typedef struct scores {
  float v[64];
  char message[AIINFRA_ERROR_MESSAGE_MAX];
  uint64_t total_tokens;
  size_t n;
  aiinfra_status status;
  int ended;
} scores;

static const char query[] = "a dog";
static const char *const documents[N_DOCUMENTS] = {"The big dog barks", "", "A cat. A very long text about a cat",
                                                   "dog"};
static stories s;

static void open_model(uint32_t yes, uint32_t no, float dense, const char *prompt)
{
  gm_shape shape = {.arch = "llama",
                    .n_vocab = N_VOCAB,
                    .n_embd = 16,
                    .n_layers = 2,
                    .n_heads = 4,
                    .n_kv_heads = 2,
                    .head_dim = 4,
                    .n_ff = 24,
                    .n_rot = 4,
                    .context = CONTEXT,
                    .head_tokens = {yes, no},
                    .head_dense = dense,
                    .rerank_prompt = prompt,
                    .seed = 3};
  size_t n;
  uint8_t *bytes = gm_model(&shape, &n);
  assert_int_equal(test_write_file(test_tmp("model.gguf"), bytes, n), 0);
  free(bytes);
  memset(&s, 0, sizeof s);
  MUST(aiinfra_runtime_create(NULL, &s.rt, &stories_err));
  MUST(aiinfra_model_open(s.rt, test_tmp("model.gguf"), NULL, &s.model, &stories_err));
  MUST(aiinfra_kv_create(s.model, NULL, &s.kv, &stories_err));
  MUST(aiinfra_batcher_create(s.model, s.kv, NULL, &s.batcher, &stories_err));
}

static void on_result(void *user, aiinfra_status status, const aiinfra_rerank_result *r)
{
  scores *out = user;
  out->ended++;
  out->status = status;
  out->n = r->n_documents;
  out->total_tokens = r->total_tokens;
  assert_true((r->error != NULL) == (status != AIINFRA_OK));
  assert_true((r->scores != NULL) == (status == AIINFRA_OK));
  if (r->error != NULL) memcpy(out->message, r->error->message, sizeof out->message);
  if (r->scores != NULL) memcpy(out->v, r->scores, r->n_documents * sizeof(float));
}

static void rerank(int raw, size_t n, scores *out)
{
  aiinfra_rerank_opts opts = AIINFRA_RERANK_OPTS_INIT;
  aiinfra_request *request;
  opts.query = query;
  opts.documents = documents;
  opts.n_documents = n;
  opts.raw_scores = raw;
  memset(out, 0, sizeof *out);
  MUST(aiinfra_batcher_rerank(s.batcher, &opts, on_result, out, &request, &stories_err));
  assert_int_equal(out->ended, 0);
  MUST(aiinfra_request_wait(request, 60000, &stories_err));
  aiinfra_request_free(request);
  assert_int_equal(out->ended, 1);
  assert_int_equal(out->n, n);
}

static size_t add_tokens(const char *text, uint32_t flags, aiinfra_token *tokens, size_t n)
{
  size_t more;
  MUST(aiinfra_model_tokenize(s.model, text, strlen(text), flags, tokens + n, CONTEXT - n, &more, &stories_err));
  return n + more;
}

/* Begin, query, end, document, end. */
static size_t pair(const char *document, aiinfra_token *tokens)
{
  size_t n = add_tokens(query, AIINFRA_TOKENIZE_BOS, tokens, 0);
  tokens[n++] = 2;
  n = add_tokens(document, 0, tokens, n);
  tokens[n++] = 2;
  return n;
}

static const float *last_logits(const aiinfra_token *tokens, size_t n)
{
  static float logits[N_VOCAB];
  aiinfra_eval *eval;
  MUST(aiinfra_eval_create(s.model, NULL, &eval, &stories_err));
  MUST(aiinfra_eval_run(eval, tokens, n, 1, logits, N_VOCAB, &stories_err));
  aiinfra_eval_free(eval);
  return logits;
}

static void check_pairs(uint32_t no, double tolerance)
{
  aiinfra_token tokens[CONTEXT];
  scores raw, shares;
  uint64_t total = 0;
  rerank(1, N_DOCUMENTS, &raw);
  rerank(0, N_DOCUMENTS, &shares);
  for (int i = 0; i < N_DOCUMENTS; i++) {
    size_t n = pair(documents[i], tokens);
    const float *logits = last_logits(tokens, n);
    double wanted = (double)logits[YES] - (no > 0 ? (double)logits[no] : 0);
    total += n;
    assert_true(fabs((double)raw.v[i] - wanted) < tolerance);
    assert_true(fabs((double)shares.v[i] - 1 / (1 + exp(-wanted))) < tolerance);
  }
  assert_int_equal(raw.total_tokens, total);
}

static void test_one_class(void **state)
{
  (void)state;
  open_model(YES, 0, 0, NULL);
  check_pairs(0, 1e-5);
  scores alone, together;
  rerank(0, N_DOCUMENTS, &together);
  rerank(0, 1, &alone);
  assert_memory_equal(alone.v, together.v, sizeof alone.v[0]); /* the same bits in any batch */
  stories_close(&s);
}

static void test_two_classes(void **state)
{
  (void)state;
  open_model(NO, YES, 0, NULL); /* without labels the second one is "yes" */
  check_pairs(NO, 1e-5);
  stories_close(&s);
}

static void test_dense_layer(void **state)
{
  (void)state;
  open_model(YES, 0, 0.001f, NULL); /* small numbers are their own hyperbolic tangents */
  check_pairs(0, 1e-4);
  stories_close(&s);
}

static void test_own_prompt(void **state)
{
  (void)state;
  aiinfra_token tokens[CONTEXT];
  scores raw;
  char text[256];
  open_model(YES, 0, 0, "{doc}{{query}|{query}</s>{document}</s>?{");
  rerank(1, N_DOCUMENTS, &raw);
  for (int i = 0; i < N_DOCUMENTS; i++) {
    snprintf(text, sizeof text, "{doc}{%s|%s</s>%s</s>?{", query, query, documents[i]);
    size_t n = add_tokens(text, AIINFRA_TOKENIZE_BOS | AIINFRA_TOKENIZE_SPECIAL, tokens, 0);
    assert_true(fabs((double)raw.v[i] - (double)last_logits(tokens, n)[YES]) < 1e-5);
  }
  stories_close(&s);
}

static void refused(const aiinfra_rerank_opts *opts, aiinfra_status wanted, const char *said)
{
  aiinfra_error err;
  aiinfra_request *request = (aiinfra_request *)(void *)&err;
  assert_int_equal(aiinfra_batcher_rerank(s.batcher, opts, on_result, NULL, &request, &err), wanted);
  assert_null(request);
  if (strstr(err.message, said) == NULL) fail_msg("\"%s\" does not say \"%s\"", err.message, said);
}

static void test_refusals(void **state)
{
  (void)state;
  static char long_text[4 * CONTEXT];
  const char *list[2] = {"a", NULL};
  aiinfra_rerank_opts opts = AIINFRA_RERANK_OPTS_INIT;
  memset(long_text, 'x', sizeof long_text - 1);
  opts.query = query;
  opts.documents = list;
  opts.n_documents = 1;
  open_model(0, 0, 0, NULL);
  refused(&opts, AIINFRA_ENOTSUP, "no reranker");
  stories_close(&s);
  open_model(YES, 0, 0, NULL);
  assert_int_equal(aiinfra_batcher_rerank(NULL, &opts, NULL, NULL, NULL, &stories_err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_batcher_rerank(s.batcher, NULL, NULL, NULL, NULL, NULL), AIINFRA_EINVAL);
  opts.query = NULL;
  refused(&opts, AIINFRA_EINVAL, "query is NULL");
  opts.query = query;
  opts.n_documents = 0;
  refused(&opts, AIINFRA_EINVAL, "no documents");
  opts.n_documents = 2;
  refused(&opts, AIINFRA_EINVAL, "documents[1] is NULL");
  list[0] = list[1] = long_text;
  refused(&opts, AIINFRA_EINVAL, "documents[0]: the prompt has");
  opts.raw_scores = 2;
  refused(&opts, AIINFRA_EINVAL, "raw_scores");
  stories_close(&s);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_class), cmocka_unit_test(test_two_classes),
                                     cmocka_unit_test(test_dense_layer), cmocka_unit_test(test_own_prompt),
                                     cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
