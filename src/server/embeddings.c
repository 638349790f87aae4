/* embeddings.c - POST /v1/embeddings: all texts go to the batcher as one request, their vectors become one answer.
 *
 * A vector is shortened to `dimensions` and then scaled to unit length. Loop thread.
 */
#include "src/server/server.h"

/* ---- the answer ---------------------------------------------------------------------------------------------------------- */

static void add_numbers(aii_buf *out, const float *vector, size_t n)
{
  aii_buf_char(out, '[');
  for (size_t i = 0; i < n; i++) {
    if (i > 0) aii_buf_char(out, ',');
    aii_buf_double(out, (double)vector[i], 9);
  }
  aii_buf_char(out, ']');
}

/* Byte `at` of the vector as little-endian 32-bit floats. */
static uint32_t byte_of(const float *vector, size_t at)
{
  uint32_t bits;
  memcpy(&bits, &vector[at / 4], sizeof bits);
  return bits >> (at % 4 * 8) & 0xFFu;
}

static void add_base64(aii_buf *out, const float *vector, size_t n)
{
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  size_t n_bytes = n * 4;
  aii_buf_char(out, '"');
  for (size_t i = 0; i < n_bytes; i += 3) {
    size_t left = n_bytes - i;
    uint32_t group = byte_of(vector, i) << 16;
    if (left > 1) group |= byte_of(vector, i + 1) << 8;
    if (left > 2) group |= byte_of(vector, i + 2);
    char four[4] = {digits[group >> 18], digits[group >> 12 & 63], left > 1 ? digits[group >> 6 & 63] : '=',
                    left > 2 ? digits[group & 63] : '='};
    aii_buf_add(out, four, sizeof four);
  }
  aii_buf_char(out, '"');
}

static void answer(aii_exchange *x, const aiinfra_embed_result *result)
{
  aii_buf *out = &x->reply.body;
  aii_buf_str(out, "{\"object\":\"list\",\"data\":[");
  for (size_t i = 0; i < result->n_texts && !out->failed; i++) {
    const float *vector = result->vectors + i * result->n_dims;
    aii_buf_fmt(out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i > 0 ? "," : "", i);
    if (x->params.base64) add_base64(out, vector, result->n_dims);
    else add_numbers(out, vector, result->n_dims);
    aii_buf_char(out, '}');
  }
  aii_buf_str(out, "],\"model\":");
  aii_buf_json(out, x->model_name, strlen(x->model_name));
  aii_buf_fmt(out, ",\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}}",
              (unsigned long long)result->total_tokens, (unsigned long long)result->total_tokens);
  aii_reply_done(&x->reply, MHD_HTTP_OK, "application/json");
}

/* ---- the work ------------------------------------------------------------------------------------------------------------ */

static void on_result(void *user, aiinfra_status status, const aiinfra_embed_result *result)
{
  aii_exchange *x = user;
  if (aii_exchange_took(x)) {
    if (status == AIINFRA_OK) answer(x, result);
    else aii_exchange_fail(x, status == AIINFRA_EINVAL ? "input" : NULL, status, result->error);
    aii_exchange_wake(x);
  }
  aii_exchange_unref(x);
}

static aiinfra_status check_dimensions(const aii_exchange *x, aiinfra_error *err)
{
  aiinfra_model_info info = {.struct_size = sizeof info};
  aiinfra_status rc = aiinfra_model_get_info(aiinfra_batcher_model(x->batcher), &info, err);
  if (rc == AIINFRA_OK && x->params.dimensions > info.n_embd)
    rc = aii_fail(err, AIINFRA_EINVAL, "dimensions: this model's vectors have %u", info.n_embd);
  return rc;
}

void aii_run_embeddings(aii_exchange *x)
{
  aiinfra_embed_opts opts = AIINFRA_EMBED_OPTS_INIT;
  aiinfra_error err;
  if (!aii_exchange_parse(x, AII_EMBEDDING)) return;
  aiinfra_status rc = check_dimensions(x, &err);
  if (rc != AIINFRA_OK) {
    aii_reply_status(&x->reply, rc, "dimensions", &err);
    return;
  }
  opts.texts = x->params.inputs;
  opts.n_texts = x->params.n_inputs;
  opts.normalize = 1;
  opts.dimensions = (uint32_t)x->params.dimensions;
  rc = aiinfra_batcher_embed_texts(x->batcher, &opts, on_result, x, &x->request, &err);
  if (rc == AIINFRA_OK) aii_exchange_ref(x);
  else aii_reply_status(&x->reply, rc, rc == AIINFRA_EINVAL ? "input" : NULL, &err);
}
