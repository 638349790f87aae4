/* search.c - POST /v1/vector_stores/NAME/search: what a memory recalls, in the shape of OpenAI's vector stores.
 *
 * Recall reads the database, so it runs on libuv's pool; the exchange waits and lives until the pool has answered, also
 * when its client has left. Loop thread, but for recall().
 */
#include <stdio.h>

#include "src/memory/memory.h"
#include "src/server/server.h"

enum { DEFAULT_RESULTS = 10, MOST_RESULTS = 50 };

typedef struct search_job {
  aii_exchange *x;
  aiinfra_memory *memory; /* a reference */
  json_t *body;           /* what the question is borrowed from */
  const char *question;
  aiinfra_recall_opts opts;
  aii_buf found;
  aiinfra_status status;
  aiinfra_error error;
} search_job;

/* ---- names -------------------------------------------------------------------------------------------------------------- */

static const aii_searched *find(const aiinfra_server *server, const char *name, size_t n)
{
  for (size_t i = 0; i < server->n_memories; i++)
    if (strlen(server->memories[i].name) == n && memcmp(server->memories[i].name, name, n) == 0)
      return &server->memories[i];
  return NULL;
}

aiinfra_status aii_memories_add(aiinfra_server *server, const char *name, aiinfra_memory *memory, aiinfra_error *err)
{
  aii_mem *mem = &server->rt->mem;
  if (find(server, name, strlen(name)) != NULL)
    return aii_fail(err, AIINFRA_EEXIST, "a memory named \"%s\" is served already", name);
  char *copy = aii_strdup(mem, name);
  if (copy == NULL ||
      !aii_grow(mem, &server->memories, &server->cap_memories, server->n_memories + 1, sizeof *server->memories)) {
    aii_strfree(mem, copy);
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for a memory's name");
  }
  aii_memory_ref(memory);
  server->memories[server->n_memories++] = (aii_searched){.name = copy, .memory = memory};
  return AIINFRA_OK;
}

void aii_memories_free(aiinfra_server *server)
{
  aii_mem *mem = &server->rt->mem;
  for (size_t i = 0; i < server->n_memories; i++) {
    aii_strfree(mem, server->memories[i].name);
    aii_memory_unref(server->memories[i].memory);
  }
  aii_del(mem, server->memories, server->cap_memories * sizeof *server->memories);
}

/* ---- the answer --------------------------------------------------------------------------------------------------------- */

static void add_text(aii_buf *out, const json_t *item, const char *key)
{
  const char *text = json_string_value(json_object_get(item, key));
  aii_buf_json(out, text != NULL ? text : "", text != NULL ? strlen(text) : 0);
}

static void add_item(aii_buf *out, const json_t *item)
{
  const json_t *metadata = json_object_get(item, "metadata");
  aii_buf_fmt(out,
              "{\"file_id\":\"item-%lld\",\"filename\":", (long long)json_integer_value(json_object_get(item, "id")));
  add_text(out, item, "source");
  aii_buf_str(out, ",\"score\":");
  aii_buf_double(out, json_number_value(json_object_get(item, "score")), 6);
  aii_buf_str(out, ",\"attributes\":");
  if (json_is_object(metadata)) (void)aii_json_dump(metadata, out);
  else aii_buf_str(out, "{}");
  aii_buf_str(out, ",\"content\":[{\"type\":\"text\",\"text\":");
  add_text(out, item, "text");
  aii_buf_str(out, "}]}");
}

static aiinfra_status answer(const search_job *job, aii_buf *out, aiinfra_error *err)
{
  json_t *items;
  aiinfra_status rc = aii_json_parse(job->found.data, job->found.len, "recall", 0, &items, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_str(out, "{\"object\":\"vector_store.search_results.page\",\"search_query\":[");
  aii_buf_json(out, job->question, strlen(job->question));
  aii_buf_str(out, "],\"data\":[");
  for (size_t i = 0; i < json_array_size(items); i++) {
    if (i > 0) aii_buf_char(out, ',');
    add_item(out, json_array_get(items, i));
  }
  aii_buf_str(out, "],\"has_more\":false,\"next_page\":null}");
  json_decref(items);
  return AIINFRA_OK;
}

/* ---- the work ----------------------------------------------------------------------------------------------------------- */

static void job_free(search_job *job)
{
  aii_exchange *x = job->x;
  aii_mem *mem = &x->server->rt->mem;
  aii_memory_unref(job->memory);
  json_decref(job->body);
  aii_buf_free(&job->found);
  aii_del(mem, job, sizeof *job);
  aii_exchange_unref(x);
}

static void recall(void *user)
{
  search_job *job = user;
  job->status = aii_memory_recall(job->memory, job->question, &job->opts, &job->found, &job->error);
}

static void recalled(void *user)
{
  search_job *job = user;
  aii_reply *reply = &job->x->reply;
  if (job->status == AIINFRA_OK) job->status = answer(job, &reply->body, &job->error);
  if (job->status == AIINFRA_OK) aii_reply_done(reply, MHD_HTTP_OK, "application/json");
  else aii_reply_status(reply, job->status, NULL, &job->error);
  aii_exchange_wake(job->x);
  job_free(job);
}

/* One question, as a string or as an array of one. */
static aiinfra_status read_query(search_job *job, aiinfra_error *err)
{
  const json_t *query = json_object_get(job->body, "query");
  if (json_is_array(query) && json_array_size(query) > 1)
    return aii_fail(err, AIINFRA_ENOTSUP, "query: only one at a time is supported");
  if (json_is_array(query)) query = json_array_get(query, 0);
  if (!json_is_string(query) || json_string_length(query) == 0)
    return aii_fail(err, AIINFRA_EINVAL, "query: expected a string that is not empty, found %s", aii_json_type(query));
  job->question = json_string_value(query);
  if (strlen(job->question) != json_string_length(query))
    return aii_fail(err, AIINFRA_EINVAL, "query: holds a NUL character");
  return AIINFRA_OK;
}

static aiinfra_status read_limits(search_job *job, aiinfra_error *err)
{
  int64_t k = DEFAULT_RESULTS;
  double threshold = 0.0;
  json_t *ranking = NULL;
  aiinfra_status rc = aii_json_get_int(job->body, "", "max_num_results", false, &k, err);
  if (rc == AIINFRA_OK && (k < 1 || k > MOST_RESULTS))
    rc = aii_fail(err, AIINFRA_EINVAL, "max_num_results: %lld is not between 1 and %d", (long long)k, MOST_RESULTS);
  if (rc == AIINFRA_OK) rc = aii_json_get_object(job->body, "", "ranking_options", false, &ranking, err);
  if (rc == AIINFRA_OK && ranking != NULL)
    rc = aii_json_get_num(ranking, "ranking_options", "score_threshold", false, &threshold, err);
  if (rc == AIINFRA_OK && !(threshold >= 0.0 && threshold <= 1.0))
    rc = aii_fail(err, AIINFRA_EINVAL, "ranking_options.score_threshold: %g is not between 0 and 1", threshold);
  job->opts.k = (uint32_t)k;
  job->opts.min_score = (float)threshold;
  return rc;
}

/* *field names what is wrong. */
static aiinfra_status read_body(search_job *job, const char **field, aiinfra_error *err)
{
  bool rewrite = false;
  *field = NULL;
  aii_exchange *x = job->x;
  aiinfra_status rc = aii_json_parse(aii_buf_cstr(&x->body), x->body.len, "body", 0, &job->body, err);
  if (rc == AIINFRA_OK && !json_is_object(job->body))
    rc = aii_fail(err, AIINFRA_EINVAL, "body: expected an object, found %s", aii_json_type(job->body));
  if (rc != AIINFRA_OK) return rc;
  *field = "query";
  rc = read_query(job, err);
  if (rc != AIINFRA_OK) return rc;
  *field = "max_num_results";
  rc = read_limits(job, err);
  if (rc != AIINFRA_OK) return rc;
  *field = "rewrite_query";
  rc = aii_json_get_bool(job->body, "", "rewrite_query", false, &rewrite, err);
  if (rc == AIINFRA_OK && rewrite) rc = aii_fail(err, AIINFRA_ENOTSUP, "rewrite_query: not supported");
  if (rc != AIINFRA_OK) return rc;
  *field = "filters";
  const json_t *filters = json_object_get(job->body, "filters");
  return filters == NULL || json_is_null(filters) ? rc : aii_fail(err, AIINFRA_ENOTSUP, "filters: not supported");
}

static aiinfra_status start(aii_exchange *x, aiinfra_memory *memory, const char **field, aiinfra_error *err)
{
  aii_mem *mem = &x->server->rt->mem;
  *field = NULL;
  search_job *job = aii_new(mem, sizeof *job);
  if (job == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a search");
  job->x = x;
  job->memory = memory;
  job->opts = (aiinfra_recall_opts)AIINFRA_RECALL_OPTS_INIT;
  aii_buf_init(&job->found, mem, AII_SERVER_MAX_REPLY);
  aii_memory_ref(memory);
  aii_exchange_ref(x);
  aiinfra_status rc = read_body(job, field, err);
  if (rc == AIINFRA_OK) rc = aii_loop_work(x->server->rt->loop, recall, recalled, job, err);
  if (rc != AIINFRA_OK) job_free(job);
  return rc;
}

void aii_run_search(aii_exchange *x)
{
  static const char tail[] = "/search";
  const char *name = x->path + strlen(x->route->path), *field;
  size_t n = strlen(name), n_tail = sizeof tail - 1;
  aiinfra_error err;
  if (n <= n_tail || strcmp(name + n - n_tail, tail) != 0) {
    aii_reply_error(&x->reply, MHD_HTTP_NOT_FOUND, NULL, "unknown_url", "no such path here");
    return;
  }
  const aii_searched *served = find(x->server, name, n - n_tail);
  if (served == NULL) {
    aii_reply_error(&x->reply, MHD_HTTP_NOT_FOUND, "vector_store_id", "vector_store_not_found",
                    "no such vector store is served here");
    return;
  }
  aiinfra_status rc = start(x, served->memory, &field, &err);
  if (rc != AIINFRA_OK) aii_reply_status(&x->reply, rc, field, &err);
}
