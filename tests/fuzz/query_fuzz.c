/* query_fuzz.c - queries from strangers, in JSON: refused with a message, or answered with JSON, over a few rows. */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "aiinfra.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(bool holds)
{
  if (!holds) abort();
}

/* The collection lives as long as the process. */
static aiinfra_vecstore *open_store(void)
{
  static const float v[4][2] = {{1, 0}, {0.8f, 0.6f}, {0.6f, 0.8f}, {0, 1}};
  static const aiinfra_record records[] = {
      {1, v[0], "red fox", "{\"price\":10,\"lang\":\"en\",\"at\":\"2026-01-01\"}"},
      {2, v[1], "red dog", "{\"price\":[20,\"x\"],\"lang\":[\"de\",\"en\"],\"at\":\"2026-01-11\"}"},
      {3, v[2], "lazy dog", "{\"price\":30.5,\"place\":{\"lon\":13.4,\"lat\":52.5}}"},
      {4, v[3], NULL, NULL},
  };
  static const uint32_t indices[2] = {4, 9};
  static const aiinfra_named_vector named[] = {
      {1, "image", v[1], NULL, 2},    {3, "image", v[0], NULL, 2},  {1, "words", v[1], indices, 2},
      {2, "words", v[0], indices, 1}, {1, "tokens", v[0], NULL, 6}, {4, "tokens", v[2], NULL, 2},
  };
  aiinfra_runtime *rt;
  aiinfra_db *db;
  aiinfra_vecstore *store;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = 2;
  opts.vectors_json = "{\"image\":{\"dims\":2},\"words\":{\"sparse\":true},\"tokens\":{\"dims\":2,\"multi\":true}}";
  need(aiinfra_runtime_create(NULL, &rt, NULL) == AIINFRA_OK);
  need(aiinfra_db_open(rt, ":memory:", NULL, &db, NULL) == AIINFRA_OK);
  need(aiinfra_vecstore_open(db, "rows", &opts, &store, NULL) == AIINFRA_OK);
  need(aiinfra_vecstore_upsert(store, records, 4, NULL) == AIINFRA_OK);
  need(aiinfra_vecstore_upsert_named(store, named, 6, NULL) == AIINFRA_OK);
  return store;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static aiinfra_vecstore *store;
  aiinfra_error err;
  char *out;
  char *text = malloc(size + 1);
  if (store == NULL) store = open_store();
  if (text == NULL) return 0;
  if (size > 0) memcpy(text, data, size);
  text[size] = '\0';
  aiinfra_status rc = aiinfra_vecstore_query(store, text, &out, &err);
  need((rc == AIINFRA_OK) == (out != NULL));
  if (out != NULL) {
    json_t *answer = json_loads(out, 0, NULL);
    need(json_is_object(answer));
    json_decref(answer);
  } else {
    need(err.message[0] != '\0');
  }
  aiinfra_string_free(out);
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[64];
  size_t n = 0;
  q.text = "red";
  q.k = 8;
  q.options_json = text;
  if (aiinfra_vecstore_search(store, &q, hits, 64, &n, NULL) != AIINFRA_OK) need(n == 0);
  need(n <= 64);
  free(text);
  return 0;
}
