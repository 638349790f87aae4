/* test_memory.c - memory as a host uses it: facts, documents, conversations, blocks, and what survives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aiinfra/memory.h"
#include "support/support.h"

static aiinfra_runtime *rt;
static aiinfra_db *db;
static aiinfra_error err;

static aiinfra_memory *must_open(const char *scope)
{
  aiinfra_memory_opts opts = AIINFRA_MEMORY_OPTS_INIT;
  aiinfra_memory *memory;
  opts.scope = scope;
  if (aiinfra_memory_open(db, &opts, &memory, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return memory;
}

static json_t *must_recall(aiinfra_memory *memory, const char *question, const aiinfra_recall_opts *opts)
{
  char *json;
  if (aiinfra_memory_recall(memory, question, opts, &json, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  json_t *items = json_loads(json, 0, NULL);
  assert_true(json_is_array(items));
  aiinfra_string_free(json);
  return items;
}

static const char *text_of(json_t *items, size_t at)
{
  const char *text = json_string_value(json_object_get(json_array_get(items, at), "text"));
  return text != NULL ? text : "";
}

static void test_facts(void **state)
{
  aiinfra_memory *memory = must_open("facts");
  int64_t cat, again, dog;
  (void)state;
  assert_int_equal(aiinfra_memory_remember(memory, "My cat is called Miso.", "{\"from\":\"chat\"}", &cat, &err), 0);
  assert_int_equal(aiinfra_memory_remember(memory, "My dog is called Rex.", NULL, &dog, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_memory_remember(memory, "I moved to Lisbon in May.", NULL, NULL, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_memory_remember(memory, "  my CAT is\ncalled miso. ", NULL, &again, &err), AIINFRA_OK);
  assert_true(cat == again && cat != dog);
  json_t *items = must_recall(memory, "What is my cat called?", NULL);
  assert_int_equal(json_array_size(items), 3);
  assert_string_equal(text_of(items, 0), "My cat is called Miso.");
  json_t *first = json_array_get(items, 0);
  assert_string_equal(json_string_value(json_object_get(first, "kind")), "fact");
  assert_int_equal(json_integer_value(json_object_get(first, "id")), cat);
  assert_string_equal(json_string_value(json_object_get(json_object_get(first, "metadata"), "from")), "chat");
  assert_true(json_is_null(json_object_get(first, "source")));
  assert_true(json_integer_value(json_object_get(first, "created_ms")) > 1600000000000);
  json_decref(items);
  items = must_recall(memory, "Where do I live?", NULL);
  assert_int_equal(json_array_size(items), 3);
  json_decref(items);
  assert_int_equal(aiinfra_memory_forget(memory, cat, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_memory_forget(memory, cat, &err), AIINFRA_ENOENT);
  items = must_recall(memory, "What is my cat called?", NULL);
  assert_int_equal(json_array_size(items), 2);
  json_decref(items);
  assert_int_equal(aiinfra_memory_remember(memory, "My cat is called Miso.", NULL, &again, &err), AIINFRA_OK);
  assert_true(again > cat); /* an id never comes back */
  aiinfra_memory_free(memory);
}

static void test_bounds(void **state)
{
  aiinfra_memory *memory = must_open("bounds");
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  char *big = malloc(70000), *json;
  (void)state;
  memset(big, 'a', 70000);
  big[65537] = '\0';
  assert_int_equal(aiinfra_memory_remember(memory, big, NULL, NULL, &err), AIINFRA_EINVAL);
  big[65536] = '\0';
  assert_int_equal(aiinfra_memory_remember(memory, big, NULL, NULL, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_memory_remember(memory, " \n", NULL, NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_memory_remember(memory, "\xC3", NULL, NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_memory_remember(memory, "a", "[]", NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_memory_recall(memory, "", NULL, &json, &err), AIINFRA_EINVAL);
  assert_null(json);
  assert_int_equal(aiinfra_memory_remember(memory, "small fact", NULL, NULL, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_memory_remember(memory, "!?", NULL, NULL, &err), AIINFRA_OK);
  opts.max_bytes = 12; /* the large one does not fit */
  json_t *items = must_recall(memory, "fact", &opts);
  assert_int_equal(json_array_size(items), 2);
  assert_string_equal(text_of(items, 0), "small fact");
  json_decref(items);
  opts.max_bytes = 0;
  opts.min_score = 0.9f;
  items = must_recall(memory, "small fact", &opts);
  assert_true(json_array_size(items) >= 1);
  assert_string_equal(text_of(items, 0), "small fact");
  json_decref(items);
  opts.kind = AIINFRA_MEMORY_PASSAGE;
  opts.min_score = 0;
  items = must_recall(memory, "small fact", &opts);
  assert_int_equal(json_array_size(items), 0);
  json_decref(items);
  free(big);
  aiinfra_memory_free(memory);
}

static void test_documents(void **state)
{
  aiinfra_memory *memory = must_open("documents");
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  aiinfra_ingest_stats stats;
  const char *path = test_path("tests/data/docs");
  (void)state;
  memset(&stats, 0, sizeof stats);
  stats.struct_size = sizeof stats;
  if (aiinfra_memory_ingest(memory, &path, 1, NULL, NULL, &stats, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(stats.files, 7);
  assert_true(stats.passages > 20);
  assert_int_equal(aiinfra_memory_remember(memory, "The server's port is not to be told.", NULL, NULL, &err), 0);
  opts.kind = AIINFRA_MEMORY_PASSAGE;
  opts.k = 1;
  json_t *items = must_recall(memory, "What is the default port of the server?", &opts);
  assert_int_equal(json_array_size(items), 1);
  assert_non_null(strstr(text_of(items, 0), "7420"));
  json_decref(items);
  opts.kind = AIINFRA_MEMORY_FACT;
  items = must_recall(memory, "What is the default port of the server?", &opts);
  assert_non_null(strstr(text_of(items, 0), "not to be told"));
  json_decref(items);
  aiinfra_memory_free(memory);
}

static void check_filtered(aiinfra_memory *memory, const char *filter, uint32_t k, size_t n, const char *first)
{
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  opts.k = k;
  opts.filter_json = filter;
  json_t *items = must_recall(memory, "Which colour is the boat?", &opts);
  if (json_array_size(items) != n) fail_msg("%s: %zu items, not %zu", filter, json_array_size(items), n);
  if (first != NULL) assert_string_equal(text_of(items, 0), first);
  json_decref(items);
}

static void add_boat(aiinfra_memory *memory, const char *text, const char *metadata, const char *source, int64_t to)
{
  aiinfra_fact_opts opts = AIINFRA_FACT_OPTS_INIT;
  opts.metadata_json = metadata;
  opts.source = source;
  opts.valid_from_ms = to > 0 ? 1000 : 0;
  opts.valid_to_ms = to;
  opts.keep_near = 1;
  if (aiinfra_memory_add_fact(memory, text, &opts, NULL, &err) != AIINFRA_OK) fail_msg("%s", err.message);
}

/* With the filter: what recall finds of that source without it, the first k in the same order with the same scores. */
static void check_kept(aiinfra_memory *memory, const char *filter, const char *source, uint32_t k)
{
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  json_t *want = json_array(), *item;
  size_t i;
  opts.k = 1000;
  json_t *all = must_recall(memory, "Which colour is the boat?", &opts);
  json_array_foreach(all, i, item)
  {
    const char *from = json_string_value(json_object_get(item, "source"));
    if (from != NULL && strcmp(from, source) == 0 && json_array_size(want) < k) json_array_append(want, item);
  }
  opts.filter_json = filter;
  opts.k = k;
  json_t *kept = must_recall(memory, "Which colour is the boat?", &opts);
  assert_int_equal(json_array_size(kept), k);
  assert_true(json_equal(kept, want));
  json_decref(kept);
  json_decref(want);
  json_decref(all);
}

static void test_filters(void **state)
{
  aiinfra_memory *memory = must_open("filters");
  const char *path = test_path("tests/data/docs");
  char text[64];
  (void)state;
  if (aiinfra_memory_ingest(memory, &path, 1, NULL, NULL, NULL, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  for (int i = 0; i < 60; i++) { /* all fit better than what the filters let pass */
    snprintf(text, sizeof text, "The colour of the boat %d is red.", i);
    add_boat(memory, text, NULL, "Ann", 0);
  }
  add_boat(memory, "Snow fell on the hills.", "{\"lang\":\"en\",\"tags\":[\"a\",\"b\"]}", "Bob", 0);
  add_boat(memory, "Rain ran down the roof.", "{\"lang\":\"en\"}", NULL, 0);
  add_boat(memory, "Schnee lag im Tal.", "{\"lang\":\"de\"}", "Bob", 0);
  check_filtered(memory, "{\"source\":\"Bob\",\"metadata.lang\":\"en\"}", 1, 1, "Snow fell on the hills.");
  check_filtered(memory, "{\"metadata.lang\":\"de\"}", 5, 1, "Schnee lag im Tal.");
  check_filtered(memory, "{\"must\":[{\"key\":\"metadata.tags\",\"match\":{\"any\":[\"b\",\"c\"]}}]}", 5, 1,
                 "Snow fell on the hills.");
  check_filtered(memory, "{\"must\":[{\"is_null\":{\"key\":\"source\"}}]}", 5, 1, "Rain ran down the roof.");
  check_filtered(memory, "{\"metadata.lang\":\"fr\"}", 5, 0, NULL);
  check_filtered(memory, "{\"kind\":\"fact\",\"source\":{\"$ne\":\"Ann\"}}", 1000, 3, NULL);
  check_kept(memory, "{\"source\":\"Ann\"}", "Ann", 5);
  check_kept(memory, "{\"source\":\"Bob\"}", "Bob", 2);
  aiinfra_memory_free(memory);
}

static void test_filtered_documents(void **state)
{
  aiinfra_memory *memory = must_open("filtered documents");
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  const char *path = test_path("tests/data/docs");
  (void)state;
  if (aiinfra_memory_ingest(memory, &path, 1, NULL, NULL, NULL, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  add_boat(memory, "The port is open.", NULL, "Ann", 2000); /* of the past */
  json_t *items = must_recall(memory, "port", NULL);
  const char *source = json_string_value(json_object_get(json_array_get(items, 0), "source"));
  json_t *filter = json_pack("{s:s, s:s}", "source", source, "kind", "passage"), *item;
  char *filter_json = json_dumps(filter, 0);
  size_t i;
  opts.filter_json = filter_json;
  opts.k = 100;
  json_t *kept = must_recall(memory, "port", &opts);
  assert_true(json_array_size(kept) > 0);
  json_array_foreach(kept, i, item)
  {
    assert_string_equal(json_string_value(json_object_get(item, "source")), source);
  }
  opts.filter_json = "{\"valid_to_ms\":2000}";
  json_t *now = must_recall(memory, "port", &opts);
  assert_int_equal(json_array_size(now), 0);
  opts.as_of_ms = 1500;
  json_t *then = must_recall(memory, "port", &opts);
  assert_int_equal(json_array_size(then), 1);
  assert_string_equal(text_of(then, 0), "The port is open.");
  json_decref(then);
  json_decref(now);
  json_decref(kept);
  json_decref(filter);
  json_decref(items);
  free(filter_json);
  aiinfra_memory_free(memory);
}

static void test_wrong_filters(void **state)
{
  aiinfra_memory *memory = must_open("wrong filters");
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  char *json, *explain = (char *)"x";
  (void)state;
  opts.explain = &explain;
  opts.filter_json = "{\"must\":[{\"key\":\"kind\",\"match\":{\"near\":1}}]}";
  assert_int_equal(aiinfra_memory_recall(memory, "boat", &opts, &json, &err), AIINFRA_EINVAL);
  if (strstr(err.message, "must[0].match.near") == NULL) fail_msg("%s", err.message);
  assert_null(json);
  assert_null(explain);
  opts.filter_json = "{\"kind\":";
  assert_int_equal(aiinfra_memory_recall(memory, "boat", &opts, &json, &err), AIINFRA_EINVAL);
  opts.filter_json = NULL;
  opts.mode = 3;
  assert_int_equal(aiinfra_memory_recall(memory, "boat", &opts, &json, &err), AIINFRA_EINVAL);
  if (strstr(err.message, "mode 3") == NULL) fail_msg("%s", err.message);
  opts.mode = 0;
  opts.reserved = 1;
  assert_int_equal(aiinfra_memory_recall(memory, "boat", &opts, &json, &err), AIINFRA_EINVAL);
  aiinfra_memory_free(memory);
}

/* How many are recalled; none may have the other search's score. */
static size_t recalled_by(aiinfra_memory *memory, int32_t mode, const char *without)
{
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  json_t *item;
  size_t i, n;
  opts.mode = mode;
  json_t *items = must_recall(memory, "boats", &opts);
  json_array_foreach(items, i, item) assert_true(json_is_null(json_object_get(item, without)));
  n = json_array_size(items);
  if (n > 0) assert_string_equal(text_of(items, 0), "We saw boats.");
  json_decref(items);
  return n;
}

static void test_modes(void **state)
{
  aiinfra_memory *memory = must_open("modes");
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  char *explain;
  (void)state;
  opts.explain = &explain;
  assert_int_equal(aiinfra_memory_remember(memory, "We saw boats.", NULL, NULL, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_memory_remember(memory, "Trains run at night.", "{\"a\":1}", NULL, &err), AIINFRA_OK);
  assert_int_equal(recalled_by(memory, AIINFRA_RECALL_WORDS, "vector_score"), 1);
  assert_int_equal(recalled_by(memory, AIINFRA_RECALL_VECTOR, "text_score"), 2);
  opts.filter_json = "{\"metadata.a\":1}";
  json_decref(must_recall(memory, "boats", &opts));
  json_t *story = json_loads(explain, 0, NULL), *search = json_array_get(json_object_get(story, "searches"), 0);
  assert_string_equal(json_string_value(json_object_get(story, "mode")), "both");
  assert_string_equal(json_string_value(json_object_get(search, "of")), "now");
  assert_int_equal(json_integer_value(json_object_get(search, "found")), 2);
  assert_int_equal(json_integer_value(json_object_get(search, "filtered")), 1);
  assert_int_equal(json_integer_value(json_object_get(search, "hidden")), 0);
  assert_int_equal(json_array_size(json_object_get(json_object_get(search, "query"), "hits")), 2);
  json_decref(story);
  aiinfra_string_free(explain);
  aiinfra_memory_free(memory);
}

static void check_history(aiinfra_memory *memory, const char *conversation, uint32_t last, const char *want)
{
  char *json;
  if (aiinfra_memory_history(memory, conversation, last, &json, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_string_equal(json, want);
  aiinfra_string_free(json);
}

static void test_conversations(void **state)
{
  static const char user[] = "{\"role\":\"user\",\"content\":\"Hi\"}",
                    call[] = "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\"}]}",
                    tool[] = "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"4\"}",
                    answer[] = "{\"role\":\"assistant\",\"content\":\"Four\"}";
  aiinfra_memory *memory = must_open("talk"), *other = must_open("talk2");
  (void)state;
  check_history(memory, "c", 0, "[]");
  const char *const all[] = {user, call, tool, answer};
  for (size_t i = 0; i < 4; i++) assert_int_equal(aiinfra_memory_append(memory, "c", all[i], &err), AIINFRA_OK);
  assert_int_equal(aiinfra_memory_append(memory, "d", answer, &err), AIINFRA_OK);
  char want[512];
  snprintf(want, sizeof want, "[%s,%s,%s,%s]", user, call, tool, answer);
  check_history(memory, "c", 0, want);
  snprintf(want, sizeof want, "[%s,%s,%s]", call, tool, answer);
  check_history(memory, "c", 3, want);
  snprintf(want, sizeof want, "[%s]", answer);
  check_history(memory, "c", 2, want); /* a tool's answer without its call makes no sense to a model */
  check_history(memory, "d", 10, want);
  check_history(other, "c", 0, "[]");
  assert_int_equal(aiinfra_memory_append(memory, "c", "{\"content\":\"x\"}", &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_memory_append(memory, "c", "nonsense", &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_memory_append(memory, "", user, &err), AIINFRA_EINVAL);
  aiinfra_memory_free(memory);
  aiinfra_memory_free(other);
}

static void check_blocks(aiinfra_memory *memory, const char *want)
{
  char *json;
  if (aiinfra_memory_blocks(memory, &json, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_string_equal(json, want);
  aiinfra_string_free(json);
}

static void test_blocks(void **state)
{
  aiinfra_memory *memory = must_open("blocks"), *other = must_open("blocks2");
  char *big = calloc(1, 16386);
  (void)state;
  check_blocks(memory, "{}");
  assert_int_equal(aiinfra_memory_set_block(memory, "persona", "I am \"Ann\".", &err), AIINFRA_OK);
  assert_int_equal(aiinfra_memory_set_block(memory, "goal", "ship", &err), AIINFRA_OK);
  assert_int_equal(aiinfra_memory_set_block(memory, "goal", "rest", &err), AIINFRA_OK);
  check_blocks(memory, "{\"goal\":\"rest\",\"persona\":\"I am \\\"Ann\\\".\"}");
  check_blocks(other, "{}");
  assert_int_equal(aiinfra_memory_set_block(memory, "goal", NULL, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_memory_set_block(memory, "persona", "", &err), AIINFRA_OK);
  check_blocks(memory, "{}");
  memset(big, 'b', 16385);
  assert_int_equal(aiinfra_memory_set_block(memory, "big", big, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_memory_set_block(memory, "", "x", &err), AIINFRA_EINVAL);
  big[65] = '\0';
  assert_int_equal(aiinfra_memory_set_block(memory, big, "x", &err), AIINFRA_EINVAL);
  free(big);
  aiinfra_memory_free(memory);
  aiinfra_memory_free(other);
}

static int set_up(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, &err) || aiinfra_db_open(rt, test_db("memory.db"), NULL, &db, &err);
}

static int tear_down(void **state)
{
  (void)state;
  aiinfra_db_free(db);
  aiinfra_runtime_free(rt);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_facts),
      cmocka_unit_test(test_bounds),
      cmocka_unit_test(test_documents),
      cmocka_unit_test(test_conversations),
      cmocka_unit_test(test_blocks),
      cmocka_unit_test(test_filters),
      cmocka_unit_test(test_filtered_documents),
      cmocka_unit_test(test_wrong_filters),
      cmocka_unit_test(test_modes),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
