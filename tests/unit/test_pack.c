/* test_pack.c - what was recalled as one text: within its budget, with sources that are true. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "lib/json/json.h"
#include "src/memory/memory.h"
#include "support/support.h"

static aiinfra_runtime *rt;
static aiinfra_error err;
static aiinfra_db *db;
static aiinfra_memory *memory;

static void ingest(const char *path, uint32_t size, uint32_t overlap)
{
  aiinfra_ingest_opts opts = AIINFRA_INGEST_OPTS_INIT;
  opts.size = size;
  opts.overlap = overlap;
  if (aiinfra_memory_ingest_files(memory, &path, 1, &opts, NULL, &err) != AIINFRA_OK) fail_msg("%s", err.message);
}

static const char *write_text(const char *name, const char *text)
{
  const char *path = test_tmp(name);
  assert_int_equal(test_write_file(path, text, strlen(text)), 0);
  return path;
}

static json_t *pack(const char *question, const aiinfra_pack_opts *opts)
{
  char *text;
  if (aiinfra_memory_pack(memory, question, opts, &text, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  json_t *packed = json_loads(text, 0, NULL);
  assert_true(json_is_object(packed));
  aiinfra_string_free(text);
  return packed;
}

static const char *text_of(const json_t *object, const char *key)
{
  const char *s = json_string_value(json_object_get(object, key));
  if (s == NULL) fail_msg("there is no %s", key);
  return s;
}

static size_t number_of(const json_t *object, const char *key)
{
  const json_t *value = json_object_get(object, key);
  assert_true(json_is_integer(value) && json_integer_value(value) >= 0);
  return (size_t)json_integer_value(value);
}

static json_t *source(const json_t *packed, size_t i)
{
  json_t *s = json_array_get(json_object_get(packed, "sources"), i);
  assert_non_null(s);
  return s;
}

static void test_budgets(void **state)
{
  aiinfra_model_opts vocabulary = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_pack_opts opts = AIINFRA_PACK_OPTS_INIT;
  aiinfra_model *model;
  size_t last = 0;
  (void)state;
  vocabulary.vocab_only = 1;
  if (aiinfra_model_open(rt, test_path("examples/nano/nano.gguf"), &vocabulary, &model, &err) != AIINFRA_OK)
    fail_msg("%s", err.message);
  ingest(test_path("tests/data/docs"), 0, 0);
  for (uint32_t budget = 8; budget < 3000; budget = budget * 3 / 2) {
    for (int with_model = 0; with_model < 2; with_model++) {
      opts.budget_tokens = budget;
      opts.model = with_model ? model : NULL;
      json_t *packed = pack("How do I make a backup of the server?", &opts);
      const char *text = text_of(packed, "text");
      size_t tokens = (strlen(text) + 3) / 4, told = number_of(packed, "tokens");
      if (with_model && strlen(text) > 0)
        assert_int_equal(aiinfra_model_tokenize(model, text, strlen(text), 0, NULL, 0, &tokens, &err), AIINFRA_ENOSPC);
      assert_int_equal(told, tokens);
      assert_true(tokens <= budget);
      if (!with_model) {
        assert_true(strlen(text) + 200 > last); /* more room is used */
        last = strlen(text);
      }
      json_decref(packed);
    }
  }
  assert_true(last > 3000);
  aiinfra_model_free(model);
}

/* Every source names the very bytes that stand below its number. */
static void test_sources_are_true(void **state)
{
  aiinfra_pack_opts opts = AIINFRA_PACK_OPTS_INIT;
  (void)state;
  ingest(test_path("tests/data/docs"), 300, 0);
  opts.budget_tokens = 2000;
  json_t *packed = pack("tokens of clients", &opts), *s;
  const char *text = text_of(packed, "text");
  size_t i, n_sources = json_array_size(json_object_get(packed, "sources")), several = 0;
  assert_true(n_sources > 3);
  json_array_foreach(json_object_get(packed, "sources"), i, s)
  {
    char head[600];
    size_t n, begin = number_of(s, "begin"), end = number_of(s, "end");
    assert_int_equal(number_of(s, "n"), i + 1);
    const char *headings = text_of(s, "headings");
    snprintf(head, sizeof head, "[%zu] %s%s%s\n", i + 1, text_of(s, "document"), *headings != '\0' ? " > " : "",
             headings);
    const char *below = strstr(text, head);
    assert_non_null(below);
    below += strlen(head);
    char path[600];
    snprintf(path, sizeof path, "%s", test_path(text_of(s, "document")));
    char *file = test_read_file(text_of(s, "document")[0] == '/' ? text_of(s, "document") : path, &n);
    assert_non_null(file);
    assert_true(begin < end && end <= n);
    size_t ids = json_array_size(json_object_get(s, "ids"));
    several += ids > 1;
    size_t same = 0; /* of one passage all, of several the first one and what is between them */
    while (same < end - begin && below[same] == file[begin + same]) same++;
    assert_true(ids == 1 ? same == end - begin : same > 20);
    free(file);
  }
  assert_true(several > 0); /* some passages follow each other */
  json_decref(packed);
}

static void test_neighbours(void **state)
{
  aiinfra_pack_opts opts = AIINFRA_PACK_OPTS_INIT;
  (void)state;
  static const char text[] =
      "The red fox sleeps in the den near the old oak. The red fox eats berries in the summer months. "
      "The red fox hunts mice when the snow has come.";
  ingest(write_text("fox.txt", text), 72, 20);
  opts.budget_tokens = 500;
  json_t *packed = pack("red fox", &opts), *first = source(packed, 0);
  assert_int_equal(json_array_size(json_object_get(packed, "sources")), 1);
  assert_true(json_array_size(json_object_get(first, "ids")) >= 3);
  const char *below = strchr(text_of(packed, "text"), '\n') + 1;
  if (strcmp(below, text) != 0) fail_msg("'%s'", below); /* nothing twice, nothing lost */
  assert_int_equal(number_of(first, "begin"), 0);
  assert_int_equal(number_of(first, "end"), sizeof text - 1);
  json_decref(packed);
}

static void test_same_and_facts(void **state)
{
  aiinfra_recall_opts recall = AIINFRA_RECALL_OPTS_INIT;
  aiinfra_pack_opts opts = AIINFRA_PACK_OPTS_INIT;
  (void)state;
  ingest(write_text("one.txt", "The  copper kettle is in the attic."), 0, 0);
  ingest(write_text("two.txt", "The copper kettle\nis in the ATTIC."), 0, 0);
  assert_int_equal(aiinfra_memory_remember(memory, "The kettle is Ann's.", NULL, NULL, &err), AIINFRA_OK);
  json_t *packed = pack("Where is the copper kettle?", &opts);
  assert_int_equal(number_of(packed, "same"), 1);
  assert_int_equal(json_array_size(json_object_get(packed, "sources")), 2);
  json_t *fact = source(packed, 1);
  assert_string_equal(text_of(fact, "kind"), "fact");
  assert_null(json_object_get(fact, "begin"));
  assert_non_null(strstr(text_of(packed, "text"), "[2]\nThe kettle is Ann's."));
  json_decref(packed);
  recall.kind = AIINFRA_MEMORY_FACT;
  opts.recall = &recall;
  packed = pack("Where is the copper kettle?", &opts);
  assert_string_equal(text_of(packed, "text"), "[1]\nThe kettle is Ann's.");
  json_decref(packed);
}

static int by_length(void *user, const char *question, const char *const *texts, size_t n, float *scores)
{
  size_t *calls = user;
  ++*calls;
  assert_string_equal(question, "the kettle");
  for (size_t i = 0; i < n; i++) scores[i] = -(float)strlen(texts[i]);
  return 0;
}

static int fails(void *user, const char *question, const char *const *texts, size_t n, float *scores)
{
  (void)user, (void)question, (void)texts, (void)n, (void)scores;
  return 1;
}

static void test_rerank(void **state)
{
  aiinfra_pack_opts opts = AIINFRA_PACK_OPTS_INIT;
  char *text = (char *)&opts;
  size_t calls = 0;
  (void)state;
  ingest(write_text("a.txt", "The kettle, the kettle, the kettle is what this is about, all the time."), 0, 0);
  ingest(write_text("b.txt", "A kettle."), 0, 0);
  opts.rerank = by_length;
  opts.rerank_user = &calls;
  json_t *packed = pack("the kettle", &opts);
  assert_int_equal(calls, 1);
  assert_non_null(strstr(text_of(source(packed, 0), "document"), "b.txt"));
  assert_non_null(strstr(text_of(source(packed, 1), "document"), "a.txt"));
  assert_true(json_number_value(json_object_get(source(packed, 0), "score")) == -9);
  json_decref(packed);
  opts.rerank = fails;
  assert_int_equal(aiinfra_memory_pack(memory, "the kettle", &opts, &text, &err), AIINFRA_ECANCELED);
  assert_null(text);
}

static void test_cut(void **state)
{
  aiinfra_pack_opts opts = AIINFRA_PACK_OPTS_INIT;
  const char *path = write_text("long.txt", "The kettle is old. It stands in the attic. Nobody has used it for years.");
  (void)state;
  ingest(path, 0, 0);
  opts.budget_tokens = (uint32_t)(strlen(path) / 4 + 16);
  json_t *packed = pack("kettle", &opts), *s = source(packed, 0);
  assert_true(json_is_true(json_object_get(s, "cut")));
  const char *below = strchr(text_of(packed, "text"), '\n') + 1;
  assert_true(strncmp(below, "The kettle is old. ", 19) == 0 && number_of(packed, "tokens") <= opts.budget_tokens);
  assert_int_equal(number_of(s, "end"), strlen(below));
  json_decref(packed);
  opts.budget_tokens = 1; /* not even a number fits */
  packed = pack("kettle", &opts);
  assert_string_equal(text_of(packed, "text"), "");
  assert_int_equal(number_of(packed, "left_out"), 1);
  json_decref(packed);
  packed = pack("nothing like it", NULL);
  json_decref(packed);
}

static int set_up(void **state)
{
  (void)state;
  if (aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK) return -1;
  if (aiinfra_db_open(rt, test_db(":memory:"), NULL, &db, &err) != AIINFRA_OK) return -1;
  return aiinfra_memory_open(db, NULL, &memory, &err);
}

static int tear_down(void **state)
{
  (void)state;
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
  bool leaked = rt->refs != 1;
  aiinfra_runtime_free(rt);
  return leaked;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(test_budgets),        TEST(test_sources_are_true), TEST(test_neighbours),
      TEST(test_same_and_facts), TEST(test_rerank),           TEST(test_cut),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
