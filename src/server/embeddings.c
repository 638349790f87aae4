/* embeddings.c - POST /v1/embeddings: some texts at a time go to the batcher, until all have a vector.
 *
 * Only SLOTS texts of a request wait in the batcher at once, so that a long list does not fill its queue. The first
 * error ends the request: the texts still in flight are cancelled, and the exchange lives until the last of them has
 * called back. Loop thread.
 */
#include <stdio.h>

#include "src/server/server.h"

enum { SLOTS = 8 };

typedef struct embed_slot {
  struct aii_embed_job *job;
  aiinfra_request *request;
  size_t index;
  bool busy;
} embed_slot;

struct aii_embed_job {
  aii_exchange *x;
  float *vectors; /* [n_inputs][n_dims] */
  size_t n_dims, n_next, n_busy, n_done;
  uint64_t n_tokens;
  bool failed;
  embed_slot slots[SLOTS];
};

void aii_embed_free(aii_exchange *x)
{
  aii_mem *mem = &x->server->rt->mem;
  if (x->embed == NULL) return;
  aii_del(mem, x->embed->vectors, x->params.n_inputs * x->embed->n_dims * sizeof(float));
  aii_del(mem, x->embed, sizeof *x->embed);
  x->embed = NULL;
}

void aii_embed_cancel(aii_exchange *x)
{
  if (x->embed == NULL) return;
  for (size_t i = 0; i < SLOTS; i++)
    if (x->embed->slots[i].busy) aiinfra_request_cancel(x->embed->slots[i].request);
}

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

static void answer(aii_embed_job *job)
{
  aii_exchange *x = job->x;
  aii_buf *out = &x->reply.body;
  aii_buf_str(out, "{\"object\":\"list\",\"data\":[");
  for (size_t i = 0; i < x->params.n_inputs && !out->failed; i++) {
    const float *vector = job->vectors + i * job->n_dims;
    aii_buf_fmt(out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i > 0 ? "," : "", i);
    if (x->params.base64) add_base64(out, vector, job->n_dims);
    else add_numbers(out, vector, job->n_dims);
    aii_buf_char(out, '}');
  }
  aii_buf_str(out, "],\"model\":");
  aii_buf_json(out, x->model_name, strlen(x->model_name));
  aii_buf_fmt(out, ",\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}}", (unsigned long long)job->n_tokens,
              (unsigned long long)job->n_tokens);
  aii_reply_done(&x->reply, MHD_HTTP_OK, "application/json");
}

/* ---- the work ------------------------------------------------------------------------------------------------------------ */

static void fail(aii_embed_job *job, aiinfra_status status, const aiinfra_error *err)
{
  aii_exchange *x = job->x;
  aiinfra_error closing;
  if (job->failed) return;
  job->failed = true;
  if (x->server->closing && status == AIINFRA_ECANCELED) {
    status = aii_fail(&closing, AIINFRA_ECLOSED, "the server is closing");
    err = &closing;
  }
  aii_reply_status(&x->reply, status, status == AIINFRA_EINVAL ? "input" : NULL, err);
  aii_embed_cancel(x);
}

static void pump(aii_embed_job *job);

static void on_vector(void *user, aiinfra_status status, const float *vector, size_t n_dims, uint32_t n_tokens,
                      const aiinfra_error *error)
{
  embed_slot *slot = user;
  aii_embed_job *job = slot->job;
  aii_exchange *x = job->x;
  aiinfra_request_free(slot->request);
  slot->request = NULL;
  slot->busy = false;
  job->n_busy--;
  if (status != AIINFRA_OK) {
    fail(job, status, error);
  } else if (!job->failed) {
    memcpy(job->vectors + slot->index * job->n_dims, vector, AII_MIN(n_dims, job->n_dims) * sizeof *vector);
    job->n_done++;
    job->n_tokens += n_tokens;
    if (job->n_done == x->params.n_inputs) answer(job);
    else if (x->connection != NULL && !x->gone) pump(job);
  }
  if (x->reply.status != 0) aii_exchange_wake(x);
  aii_exchange_unref(x);
}

/* Fills the free slots. A full queue is no error while a text of ours is in it: its end fills them again. */
static void pump(aii_embed_job *job)
{
  aii_exchange *x = job->x;
  for (size_t i = 0; i < SLOTS && !job->failed && job->n_next < x->params.n_inputs; i++) {
    embed_slot *slot = &job->slots[i];
    aiinfra_error err;
    if (slot->busy) continue;
    aiinfra_status rc = x->server->closing ? aii_fail(&err, AIINFRA_ECLOSED, "the server is closing")
                                           : aiinfra_batcher_embed(x->batcher, x->params.inputs[job->n_next], on_vector,
                                                                   slot, &slot->request, &err);
    if (rc == AIINFRA_EBUSY && job->n_busy > 0) return;
    if (rc != AIINFRA_OK) {
      fail(job, rc, &err);
      return;
    }
    slot->busy = true;
    slot->index = job->n_next++;
    job->n_busy++;
    aii_exchange_ref(x);
  }
}

static aiinfra_status make_job(aii_exchange *x, aiinfra_error *err)
{
  aii_mem *mem = &x->server->rt->mem;
  aiinfra_model_info info = {.struct_size = sizeof info};
  size_t n;
  aiinfra_status rc = aiinfra_model_get_info(aiinfra_batcher_model(x->batcher), &info, err);
  if (rc != AIINFRA_OK) return rc;
  if (x->params.dimensions != 0 && x->params.dimensions != info.n_embd)
    return aii_fail(err, AIINFRA_ENOTSUP, "dimensions: this model's vectors have %u and cannot be shortened",
                    info.n_embd);
  aii_embed_job *job = aii_new(mem, sizeof *job);
  if (job == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for an embedding");
  x->embed = job;
  job->x = x;
  for (size_t i = 0; i < SLOTS; i++) job->slots[i].job = job;
  if (aii_size_mul(x->params.n_inputs, info.n_embd, &n)) job->vectors = aii_new_array(mem, n, sizeof(float));
  if (job->vectors == NULL)
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu vectors of %u dimensions", x->params.n_inputs, info.n_embd);
  job->n_dims = info.n_embd;
  return AIINFRA_OK;
}

void aii_run_embeddings(aii_exchange *x)
{
  aiinfra_error err;
  if (!aii_exchange_parse(x, AII_EMBEDDING)) return;
  aiinfra_status rc = make_job(x, &err);
  if (rc == AIINFRA_OK) pump(x->embed);
  else aii_reply_status(&x->reply, rc, rc == AIINFRA_ENOTSUP ? "dimensions" : NULL, &err);
}
