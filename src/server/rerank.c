/* rerank.c - POST /v1/rerank: documents scored by a query, best first, in the shape that Cohere and Jina share. Loop
 * thread.
 */
#include "src/server/server.h"

typedef struct ranked {
  float score;
  size_t index;
} ranked;

static int by_score(const void *a, const void *b)
{
  const ranked *x = a, *y = b;
  if (x->score != y->score) return x->score < y->score ? 1 : -1;
  return x->index < y->index ? -1 : x->index > y->index;
}

static void add_results(const aii_exchange *x, const ranked *list, size_t n, aii_buf *out)
{
  for (size_t i = 0; i < n && !out->failed; i++) {
    aii_buf_fmt(out, "%s{\"index\":%zu,\"relevance_score\":", i > 0 ? "," : "", list[i].index);
    aii_buf_double(out, (double)list[i].score, 9);
    if (x->params.return_documents) {
      const char *text = x->params.inputs[list[i].index];
      aii_buf_str(out, ",\"document\":{\"text\":");
      aii_buf_json(out, text, strlen(text));
      aii_buf_char(out, '}');
    }
    aii_buf_char(out, '}');
  }
}

static void answer(aii_exchange *x, const aiinfra_rerank_result *result)
{
  aii_mem *mem = &x->server->rt->mem;
  aii_buf *out = &x->reply.body;
  size_t n = result->n_documents, n_top = x->params.top_n != 0 ? AII_MIN((size_t)x->params.top_n, n) : n;
  unsigned long long total = (unsigned long long)result->total_tokens;
  ranked *list = aii_new_array(mem, n, sizeof *list);
  if (list == NULL) {
    aiinfra_error err;
    aiinfra_status rc = aii_fail(&err, AIINFRA_ENOMEM, "no memory for %zu scores", n);
    aii_exchange_fail(x, NULL, rc, &err);
    return;
  }
  for (size_t i = 0; i < n; i++) list[i] = (ranked){result->scores[i], i};
  qsort(list, n, sizeof *list, by_score);
  aii_buf_fmt(out, "{\"id\":\"%s\",\"model\":", x->id);
  aii_buf_json(out, x->model_name, strlen(x->model_name));
  aii_buf_str(out, ",\"results\":[");
  add_results(x, list, n_top, out);
  aii_buf_fmt(out,
              "],\"meta\":{\"api_version\":{\"version\":\"1\"},\"billed_units\":{\"search_units\":1},"
              "\"tokens\":{\"input_tokens\":%llu,\"output_tokens\":0}},\"usage\":{\"prompt_tokens\":%llu,"
              "\"total_tokens\":%llu}}",
              total, total, total);
  aii_del(mem, list, n * sizeof *list);
  aii_reply_done(&x->reply, MHD_HTTP_OK, "application/json");
}

static void on_result(void *user, aiinfra_status status, const aiinfra_rerank_result *result)
{
  aii_exchange *x = user;
  if (aii_exchange_took(x)) {
    if (status == AIINFRA_OK) answer(x, result);
    else aii_exchange_fail(x, status == AIINFRA_EINVAL ? "documents" : NULL, status, result->error);
    aii_exchange_wake(x);
  }
  aii_exchange_unref(x);
}

void aii_run_rerank(aii_exchange *x)
{
  aiinfra_rerank_opts opts = AIINFRA_RERANK_OPTS_INIT;
  aiinfra_error err;
  if (!aii_exchange_parse(x, AII_RERANK)) return;
  opts.query = x->params.query;
  opts.documents = x->params.inputs;
  opts.n_documents = x->params.n_inputs;
  aiinfra_status rc = aiinfra_batcher_rerank(x->batcher, &opts, on_result, x, &x->request, &err);
  if (rc == AIINFRA_OK) aii_exchange_ref(x);
  else
    aii_reply_status(&x->reply, rc, rc == AIINFRA_ENOTSUP ? "model" : rc == AIINFRA_EINVAL ? "documents" : NULL, &err);
}
