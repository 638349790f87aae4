/* cached.c - the response cache before the batcher: looked into first, filled afterwards.
 *
 * The happy path is: the request is put into the cache's form -> a lookup on libuv's pool, while the exchange waits ->
 * a hit is answered in the shapes of a generation; a miss goes to the batcher, and its result is stored on the pool when
 * the answer is on its way. The form names the model by its content, so that another file under the same name shares
 * nothing; the tenant is whose key the request came with. A failure of the cache is a miss, never one of the request.
 *
 * Who is served from it: requests without chance (temperature 0, or a seed) and those that ask for it ("cache": true),
 * unless they refuse it. Loop thread, but for run_job().
 */
#include <stdio.h>
#include <strings.h>

#include "src/cache/cache.h"
#include "src/engine/engine.h"
#include "src/server/server.h"

enum { PIECE_BYTES = 96, MOST_PIECES = 256, SAMPLE_BYTES = 256 };
static const float same_answer = 0.8f; /* cosine of two answers that say the same, in shadow mode */

typedef enum job_kind { LOOK, KEEP, REPORT } job_kind;

typedef struct cache_job {
  aii_exchange *x;      /* a reference */
  aiinfra_cache *cache; /* a reference */
  job_kind kind;
  char *found;       /* LOOK: what the cache said */
  aii_buf answer;    /* KEEP: what to store; empty: nothing */
  uint32_t n_cached; /* KEEP: prompt tokens that the KV cache had */
  json_t *body;      /* REPORT */
  int64_t id;
  aiinfra_status status;
  aiinfra_error error;
} cache_job;

/* ---- what a request is in the cache ------------------------------------------------------------------------------------ */

static uint64_t hash_tensor(const aii_gguf_tensor *tensor, uint64_t seed)
{
  seed = aii_hash64(tensor->name.p, tensor->name.n, seed ^ tensor->type);
  seed = aii_hash64(tensor->ne, sizeof tensor->ne, seed);
  if (tensor->data == NULL || tensor->bytes < SAMPLE_BYTES) return seed;
  size_t middle = (size_t)(tensor->bytes - SAMPLE_BYTES) / 2;
  return aii_hash64(tensor->data + middle, SAMPLE_BYTES, seed);
}

/* Of all keys, and of some bytes of every tensor: a page of each is read. */
uint64_t aii_cached_identity(const aiinfra_batcher *batcher)
{
  const aii_gguf *gguf = batcher->model->gguf;
  uint64_t hash = (uint64_t)batcher->kv->view.type;
  for (size_t i = 0; i < aii_gguf_n_kv(gguf); i++) {
    const aii_gguf_kv *kv = aii_gguf_kv_at(gguf, i);
    hash = aii_hash64(kv->key.p, kv->key.n, hash);
    hash = aii_hash64(kv->data, kv->bytes, hash);
  }
  for (size_t i = 0; i < aii_gguf_n_tensors(gguf); i++) hash = hash_tensor(aii_gguf_tensor_at(gguf, i), hash);
  return hash;
}

/* Keys are secrets, so only a digest of them is kept. */
static void name_tenant(aii_exchange *x)
{
  const char *key = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
  if (key == NULL) return;
  size_t n = strlen(key);
  uint64_t low = aii_hash64(key, n, 1);
  (void)snprintf(x->cached.tenant, sizeof x->cached.tenant, "key-%016llx%016llx", (unsigned long long)low,
                 (unsigned long long)aii_hash64(key, n, ~low));
}

/* A text to be continued is no question: the exact tier alone compares it, as a message of another role. */
static json_t *as_chat(json_t *root)
{
  json_t *prompt = json_object_get(root, "prompt");
  json_t *messages = json_pack("[{s:s, s:O}]", "role", "prompt", "content", prompt);
  if (messages == NULL || json_object_set_new(root, "messages", messages) != 0) return NULL;
  return json_object_del(root, "prompt") == 0 ? root : NULL;
}

static bool write_form(aii_exchange *x, uint64_t identity, aii_buf *out)
{
  char content[24];
  json_t *root = aii_json_copy(x->params.root);
  (void)snprintf(content, sizeof content, "%016llx", (unsigned long long)identity);
  bool ok = root != NULL && json_object_set_new(root, "model", json_string(x->model_name)) == 0 &&
            json_object_set_new(root, "model_content", json_string(content)) == 0 &&
            (x->endpoint == AII_CHAT || as_chat(root) != NULL) && aii_json_dump(root, out);
  json_decref(root);
  return ok && !out->failed;
}

/* ---- who is served from it ---------------------------------------------------------------------------------------------- */

/* One directive of Cache-Control, which may stand among others. */
static bool directs(const char *header, const char *directive)
{
  size_t n = strlen(directive);
  while (header != NULL && *header != '\0') {
    header += strspn(header, " ,\t");
    size_t len = strcspn(header, " ,\t=");
    if (len == n && strncasecmp(header, directive, n) == 0) return true;
    header += strcspn(header, ",");
  }
  return false;
}

static void read_wishes(aii_exchange *x)
{
  const json_t *wish = json_object_get(x->params.root, "cache");
  const char *header = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CACHE_CONTROL);
  bool certain = x->params.opts.temperature == 0.0f || x->params.opts.seed != 0;
  bool wanted = certain || json_is_true(wish) || json_is_object(wish);
  bool refused = json_is_false(wish) || json_is_true(json_object_get(wish, "no-store")) || directs(header, "no-store");
  bool fresh = json_is_true(json_object_get(wish, "no-cache")) || directs(header, "no-cache");
  x->cached.state = AII_CACHED_BYPASS;
  x->cached.store = wanted && !refused;
  if (x->cached.store && !fresh) x->cached.state = AII_CACHED_MISS;
}

/* ---- counting ----------------------------------------------------------------------------------------------------------- */

static void count_lookup(const aii_exchange *x, const char *result, const char *tier)
{
  char labels[64];
  (void)snprintf(labels, sizeof labels, "result=\"%s\",tier=\"%s\"", result, tier);
  aii_metric_add(aii_metric_get(x->server->rt, AII_COUNTER, "aiinfra_response_cache_requests_total",
                                "Generations by what the response cache did.", labels),
                 1.0);
}

static void count_saved(const aii_exchange *x, const char *by, double tokens)
{
  char labels[32];
  (void)snprintf(labels, sizeof labels, "by=\"%s\"", by);
  aii_metric_add(aii_metric_get(x->server->rt, AII_COUNTER, "aiinfra_saved_tokens_total",
                                "Tokens that were not computed, by the response cache or the prefix cache.", labels),
                 tokens);
}

/* ---- jobs ---------------------------------------------------------------------------------------------------------------- */

static void job_free(cache_job *job)
{
  aii_exchange *x = job->x;
  aiinfra_string_free(job->found);
  json_decref(job->body);
  aii_buf_free(&job->answer);
  aii_cache_unref(job->cache);
  aii_del(&x->server->rt->mem, job, sizeof *job);
  aii_exchange_unref(x);
}

static cache_job *job_new(aii_exchange *x, job_kind kind)
{
  aii_mem *mem = &x->server->rt->mem;
  cache_job *job = aii_new(mem, sizeof *job);
  if (job == NULL) return NULL;
  job->x = x;
  job->kind = kind;
  job->cache = x->server->cache;
  aii_buf_init(&job->answer, mem, 0);
  aii_cache_ref(job->cache);
  aii_exchange_ref(x);
  return job;
}

static aiinfra_status report(cache_job *job)
{
  aiinfra_cache_query query = AIINFRA_CACHE_QUERY_INIT;
  aii_buf request;
  const json_t *question = json_object_get(job->body, "question");
  aiinfra_status rc = aii_cache_check_owner(job->cache, job->id, job->x->cached.tenant, &job->error);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_init(&request, &job->x->server->rt->mem, 0);
  aii_buf_str(&request, "{\"messages\":[{\"role\":\"user\",\"content\":");
  if (question != NULL) aii_buf_json(&request, json_string_value(question), json_string_length(question));
  aii_buf_str(&request, "}]}");
  query.request_json = aii_buf_cstr(&request);
  if (request.failed) rc = aii_fail(&job->error, AIINFRA_ENOMEM, "no memory for a question");
  else rc = aiinfra_cache_report_false(job->cache, job->id, question != NULL ? &query : NULL, &job->error);
  aii_buf_free(&request);
  return rc;
}

static aiinfra_status keep(cache_job *job, const aiinfra_cache_query *query)
{
  const aii_cached *cached = &job->x->cached;
  if (job->n_cached > 0) aii_cache_note(job->cache, AII_COUNT_PREFIX, job->n_cached);
  if (cached->shadow[0] != '\0') aii_cache_note(job->cache, cached->same ? AII_COUNT_SAME : AII_COUNT_DIFFERENT, 1);
  if (job->answer.len == 0) return AIINFRA_OK;
  return aiinfra_cache_store(job->cache, query, aii_buf_cstr(&job->answer), NULL, &job->error);
}

static void run_job(void *user)
{
  cache_job *job = user;
  const aii_cached *cached = &job->x->cached;
  aiinfra_cache_query query = AIINFRA_CACHE_QUERY_INIT;
  query.request_json = aii_buf_cstr(&cached->form);
  query.tenant = cached->tenant;
  query.keep_cut = 1;
  if (job->kind == LOOK) job->status = aiinfra_cache_lookup(job->cache, &query, &job->found, &job->error);
  else if (job->kind == KEEP) job->status = keep(job, &query);
  else job->status = report(job);
}

/* ---- a hit ----------------------------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key, size_t *n)
{
  const json_t *value = json_object_get(object, key);
  *n = json_string_length(value);
  return json_is_string(value) ? json_string_value(value) : "";
}

/* What was stored, as the batcher would have given it; strings are the response's. */
static aiinfra_result result_of(const aii_exchange *x, const json_t *response)
{
  aiinfra_result result = {.finish = AIINFRA_FINISH_STOP};
  size_t n;
  const json_t *choice = json_array_get(json_object_get(response, "choices"), 0);
  const json_t *message = json_object_get(choice, "message"), *usage = json_object_get(response, "usage");
  bool chat = x->endpoint == AII_CHAT;
  result.text = text_of(chat ? message : choice, chat ? "content" : "text", &result.text_bytes);
  result.reasoning = text_of(message, "reasoning_content", &result.reasoning_bytes);
  result.n_prompt = (uint32_t)json_integer_value(json_object_get(usage, "prompt_tokens"));
  result.n_generated = (uint32_t)json_integer_value(json_object_get(usage, "completion_tokens"));
  result.n_cached = result.n_prompt;
  if (strcmp(text_of(choice, "finish_reason", &n), "length") == 0) result.finish = AIINFRA_FINISH_LENGTH;
  return result;
}

/* The next piece of the n bytes that are left, in whole characters. */
static size_t piece_of(const char *text, size_t n, size_t total)
{
  size_t at = AII_MAX((size_t)PIECE_BYTES, total / MOST_PIECES);
  if (n <= at) return n;
  for (int i = 0; i < 3 && ((unsigned char)text[at] & 0xC0) == 0x80; i++) at--;
  return at;
}

static void stream_pieces(aii_exchange *x, const aiinfra_result *result)
{
  for (size_t at = 0, n; at < result->reasoning_bytes; at += n) {
    n = piece_of(result->reasoning + at, result->reasoning_bytes - at, result->reasoning_bytes);
    aii_generate_chunk(x, &(aiinfra_chunk){.text = "", .reasoning = result->reasoning + at, .reasoning_bytes = n});
  }
  for (size_t at = 0, n; at < result->text_bytes; at += n) {
    n = piece_of(result->text + at, result->text_bytes - at, result->text_bytes);
    aii_generate_chunk(x, &(aiinfra_chunk){.text = result->text + at, .n_bytes = n, .reasoning = ""});
  }
}

static void serve_hit(aii_exchange *x, const json_t *found)
{
  aiinfra_result result = result_of(x, json_object_get(found, "response"));
  size_t n;
  x->cached.state = AII_CACHED_HIT;
  x->cached.id = json_integer_value(json_object_get(found, "id"));
  x->cached.age_s = json_integer_value(json_object_get(found, "age_ms")) / 1000;
  (void)snprintf(x->cached.tier, sizeof x->cached.tier, "%s", text_of(found, "tier", &n));
  count_lookup(x, "hit", x->cached.tier);
  count_saved(x, "response_cache", (double)result.n_prompt + (double)result.n_generated);
  if (x->params.stream) stream_pieces(x, &result);
  if (!x->gone) aii_generate_finish(x, &result);
}

/* What shadow mode would have served waits for the model's own answer. */
static void note_shadow(aii_exchange *x, const json_t *would)
{
  aiinfra_result result = result_of(x, json_object_get(would, "response"));
  size_t n;
  (void)snprintf(x->cached.shadow, sizeof x->cached.shadow, "%s", text_of(would, "tier", &n));
  x->cached.id = json_integer_value(json_object_get(would, "id"));
  aii_buf_add(&x->cached.would, result.text, result.text_bytes);
}

static void looked(void *user)
{
  cache_job *job = user;
  aii_exchange *x = job->x;
  json_t *found = NULL;
  if (job->status == AIINFRA_OK) (void)aii_json_parse(job->found, strlen(job->found), "cache", 0, &found, &job->error);
  else aii_logf(&x->server->rt->log, AIINFRA_LOG_WARN, "server: %s: %s", x->id, job->error.message);
  if (x->connection != NULL && !x->gone) {
    if (x->server->closing) {
      aii_exchange_fail(x, NULL, AIINFRA_ECANCELED, NULL);
    } else if (json_is_true(json_object_get(found, "hit"))) {
      serve_hit(x, found);
    } else {
      const json_t *would = json_object_get(found, "would");
      if (would != NULL) note_shadow(x, would);
      count_lookup(x, "miss", would != NULL ? "shadow" : "none");
      aii_generate_start(x);
    }
    if (x->reply.status != 0 || x->events.len > 0) aii_exchange_wake(x);
  }
  json_decref(found);
  job_free(job);
}

bool aii_cached_look(aii_exchange *x)
{
  aiinfra_error err;
  if (x->server->cache == NULL) return false;
  read_wishes(x);
  if (!x->cached.store) {
    count_lookup(x, "bypass", "none");
    return false;
  }
  name_tenant(x);
  const aii_served *served = aii_models_find(x->server, x->params.model);
  x->cached.store = write_form(x, served->identity, &x->cached.form);
  if (!x->cached.store || x->cached.state == AII_CACHED_BYPASS) {
    count_lookup(x, "bypass", "none");
    return false;
  }
  cache_job *job = job_new(x, LOOK);
  if (job == NULL) return false;
  if (aii_loop_work(x->server->rt->loop, run_job, looked, job, &err) == AIINFRA_OK) return true;
  job_free(job);
  return false;
}

/* ---- what the model answered ------------------------------------------------------------------------------------------- */

static void kept(void *user)
{
  cache_job *job = user;
  if (job->status != AIINFRA_OK)
    aii_logf(&job->x->server->rt->log, AIINFRA_LOG_WARN, "server: %s: %s", job->x->id, job->error.message);
  job_free(job);
}

static bool says_the_same(const aii_buf *would, const aiinfra_result *result)
{
  float a[AII_EMBED_DIMS], b[AII_EMBED_DIMS];
  if (would->len == result->text_bytes && memcmp(would->data, result->text, would->len) == 0) return true;
  aii_embed(would->data, would->len, a);
  aii_embed(result->text, result->text_bytes, b);
  return aii_embed_dot(a, b) >= same_answer;
}

void aii_cached_keep(aii_exchange *x, const aiinfra_result *result)
{
  aiinfra_error err;
  if (x->server->cache == NULL) return;
  if (result->n_cached > 0) count_saved(x, "prefix_cache", result->n_cached);
  if (!x->cached.store && result->n_cached == 0) return;
  cache_job *job = job_new(x, KEEP);
  if (job == NULL) return;
  job->n_cached = result->n_cached;
  if (x->cached.shadow[0] != '\0') x->cached.same = says_the_same(&x->cached.would, result);
  if (x->cached.store && result->cut_call == 0) aii_openai_answer(x, result, &job->answer);
  if (job->answer.failed || aii_loop_work(x->server->rt->loop, run_job, kept, job, &err) != AIINFRA_OK) job_free(job);
}

/* ---- headers --------------------------------------------------------------------------------------------------------------- */

static void add_number(struct MHD_Response *response, const char *name, long long value)
{
  char text[24];
  (void)snprintf(text, sizeof text, "%lld", value);
  (void)MHD_add_response_header(response, name, text);
}

void aii_cached_add_headers(const aii_exchange *x, struct MHD_Response *response)
{
  static const char *const states[] = {NULL, "BYPASS", "MISS", "HIT"};
  const aii_cached *cached = &x->cached;
  if (cached->state == AII_CACHED_NONE) return;
  (void)MHD_add_response_header(response, "X-Cache", states[cached->state]);
  if (cached->shadow[0] != '\0') (void)MHD_add_response_header(response, "X-Cache-Shadow", cached->shadow);
  if (cached->id != 0) add_number(response, "X-Cache-Id", (long long)cached->id);
  if (cached->state != AII_CACHED_HIT) return;
  (void)MHD_add_response_header(response, "X-Cache-Tier", cached->tier);
  add_number(response, MHD_HTTP_HEADER_AGE, (long long)cached->age_s);
}

/* ---- POST /v1/cache/report -------------------------------------------------------------------------------------------------- */

static void reported(void *user)
{
  cache_job *job = user;
  aii_exchange *x = job->x;
  if (job->status == AIINFRA_OK) {
    aii_buf_fmt(&x->reply.body, "{\"id\":%lld,\"object\":\"cache.entry\",\"deleted\":true}", (long long)job->id);
    aii_reply_done(&x->reply, MHD_HTTP_OK, "application/json");
  } else {
    aii_reply_status(&x->reply, job->status, "id", &job->error);
  }
  aii_exchange_wake(x);
  job_free(job);
}

static aiinfra_status read_report(cache_job *job, const char **field, aiinfra_error *err)
{
  const aii_exchange *x = job->x;
  const char *question;
  *field = NULL;
  aiinfra_status rc = aii_json_parse(aii_buf_cstr(&x->body), x->body.len, "body", 0, &job->body, err);
  if (rc == AIINFRA_OK && !json_is_object(job->body))
    rc = aii_fail(err, AIINFRA_EINVAL, "body: expected an object, found %s", aii_json_type(job->body));
  if (rc != AIINFRA_OK) return rc;
  *field = "id";
  rc = aii_json_get_int(job->body, "", "id", true, &job->id, err);
  if (rc != AIINFRA_OK) return rc;
  *field = "question";
  if (json_is_null(json_object_get(job->body, "question"))) (void)json_object_del(job->body, "question");
  return aii_json_get_str(job->body, "", "question", false, &question, err);
}

void aii_run_cache_report(aii_exchange *x)
{
  aiinfra_error err;
  const char *field = NULL;
  if (x->server->cache == NULL) {
    aii_reply_error(&x->reply, MHD_HTTP_NOT_FOUND, NULL, "no_cache", "this server has no response cache");
    return;
  }
  cache_job *job = job_new(x, REPORT);
  if (job == NULL) {
    aii_reply_status(&x->reply, AIINFRA_ENOMEM, NULL, NULL);
    return;
  }
  name_tenant(x);
  aiinfra_status rc = read_report(job, &field, &err);
  if (rc == AIINFRA_OK) rc = aii_loop_work(x->server->rt->loop, run_job, reported, job, &err);
  if (rc == AIINFRA_OK) return;
  aii_reply_status(&x->reply, rc, field, &err);
  job_free(job);
}

/* ---- the server's cache ---------------------------------------------------------------------------------------------------- */

aiinfra_status aii_cached_set(aiinfra_server *server, aiinfra_cache *cache, aiinfra_error *err)
{
  if (server->cache != NULL) return aii_fail(err, AIINFRA_EEXIST, "the server has a cache already");
  aii_cache_ref(cache);
  server->cache = cache;
  return AIINFRA_OK;
}

void aii_cached_init(aii_exchange *x)
{
  aii_buf_init(&x->cached.form, &x->server->rt->mem, 0);
  aii_buf_init(&x->cached.would, &x->server->rt->mem, 0);
}

void aii_cached_free(aii_exchange *x)
{
  aii_buf_free(&x->cached.form);
  aii_buf_free(&x->cached.would);
}
