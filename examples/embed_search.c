/* embed_search.c - a vector collection in one file: texts are embedded by a model, written, and searched by meaning and
 * by words.
 *
 *   embed_search MODEL.gguf ["a question"]
 */
#include <aiinfra.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const texts[] = {
    "The cat sleeps on the warm stove.",    "A dog runs along the beach.",     "The boat sails over the lake.",
    "Bread is baked from flour and water.", "The girl reads a book at night.", "Rain falls on the old town.",
};
#define N_TEXTS (sizeof texts / sizeof texts[0])

typedef struct vector {
  float *values;
  aiinfra_error error;
} vector;

static void on_vector(void *user, aiinfra_status status, const float *values, size_t n, uint32_t n_tokens,
                      const aiinfra_error *error)
{
  vector *v = user;
  (void)n_tokens;
  if (status != AIINFRA_OK) v->error = *error;
  else if ((v->values = malloc(n * sizeof *values)) != NULL) memcpy(v->values, values, n * sizeof *values);
}

static aiinfra_status embed(aiinfra_batcher *batcher, const char *text, vector *v, aiinfra_error *err)
{
  aiinfra_request *request;
  aiinfra_status rc = aiinfra_batcher_embed(batcher, text, on_vector, v, &request, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aiinfra_request_wait(request, -1, NULL);
  aiinfra_request_free(request);
  if (rc != AIINFRA_OK) *err = v->error;
  return rc;
}

static aiinfra_status fill(aiinfra_batcher *batcher, aiinfra_vecstore *store, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; i < N_TEXTS && rc == AIINFRA_OK; i++) {
    vector v = {0};
    aiinfra_record record = {(int64_t)i + 1, NULL, texts[i], "{\"lang\": \"en\"}"};
    rc = embed(batcher, texts[i], &v, err);
    record.vector = v.values;
    if (rc == AIINFRA_OK) rc = aiinfra_vecstore_upsert(store, &record, 1, err);
    free(v.values);
  }
  return rc;
}

static aiinfra_status search(aiinfra_batcher *batcher, aiinfra_vecstore *store, const char *question,
                             aiinfra_error *err)
{
  aiinfra_query query = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[3];
  vector v = {0};
  size_t n = 0;
  aiinfra_status rc = embed(batcher, question, &v, err);
  query.vector = v.values;
  query.text = question; /* both: the two rankings are fused */
  query.filter_json = "{\"must\": [{\"key\": \"lang\", \"match\": {\"value\": \"en\"}}]}";
  query.k = 3;
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_search(store, &query, hits, 3, &n, err);
  for (size_t i = 0; i < n; i++) printf("%.4f  %s\n", (double)hits[i].score, texts[hits[i].id - 1]);
  free(v.values);
  return rc;
}

int main(int argc, char **argv)
{
  aiinfra_runtime *runtime = NULL;
  aiinfra_model *model = NULL;
  aiinfra_kv *kv = NULL;
  aiinfra_batcher *batcher = NULL;
  aiinfra_db *db = NULL;
  aiinfra_vecstore *store = NULL;
  aiinfra_model_info info = {.struct_size = sizeof info};
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_error err;
  aiinfra_status rc;
  if (argc < 2) return fprintf(stderr, "usage: embed_search MODEL.gguf [QUESTION]\n"), 2;

  rc = aiinfra_runtime_create(NULL, &runtime, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_model_open(runtime, argv[1], NULL, &model, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_kv_create(model, NULL, &kv, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_batcher_create(model, kv, NULL, &batcher, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_model_get_info(model, &info, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_db_open(runtime, ":memory:", NULL, &db, &err);
  opts.dims = info.n_embd;
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_open(db, "texts", &opts, &store, &err);
  if (rc == AIINFRA_OK) rc = fill(batcher, store, &err);
  if (rc == AIINFRA_OK) rc = search(batcher, store, argc > 2 ? argv[2] : "Where does the cat sleep?", &err);
  if (rc != AIINFRA_OK) fprintf(stderr, "embed_search: %s\n", err.message);

  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  aiinfra_batcher_free(batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_free(runtime);
  return rc == AIINFRA_OK ? 0 : 1;
}
