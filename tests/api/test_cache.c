/* test_cache.c - the response cache as a host uses it: partitions, tiers, time, bounds, false hits, shadow, counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "aiinfra/cache.h"
#include "support/support.h"

static aiinfra_runtime *rt;
static aiinfra_db *db;
static aiinfra_error err;

static aiinfra_cache *must_open(const aiinfra_cache_opts *opts)
{
  aiinfra_cache *cache;
  if (aiinfra_cache_open(db, opts, &cache, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return cache;
}

static int64_t store_as(aiinfra_cache *cache, const char *tenant, int64_t ttl_ms, const char *request,
                        const char *response)
{
  aiinfra_cache_query query = AIINFRA_CACHE_QUERY_INIT;
  int64_t id;
  query.request_json = request;
  query.tenant = tenant;
  query.ttl_ms = ttl_ms;
  if (aiinfra_cache_store(cache, &query, response, &id, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return id;
}

static json_t *look_as(aiinfra_cache *cache, const char *tenant, const char *request)
{
  aiinfra_cache_query query = AIINFRA_CACHE_QUERY_INIT;
  char *text;
  query.request_json = request;
  query.tenant = tenant;
  if (aiinfra_cache_lookup(cache, &query, &text, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  json_t *found = json_loads(text, 0, NULL);
  if (found == NULL) fail_msg("no JSON: %s", text);
  aiinfra_string_free(text);
  return found;
}

/* "" for a miss, else the tier. */
static const char *tier_of(aiinfra_cache *cache, const char *tenant, const char *request)
{
  static char tier[16];
  json_t *found = look_as(cache, tenant, request);
  const char *name = json_string_value(json_object_get(found, "tier"));
  snprintf(tier, sizeof tier, "%s", json_is_true(json_object_get(found, "hit")) ? name : "");
  json_decref(found);
  return tier;
}

static const char *ask(const char *question)
{
  static char text[4][512];
  static int at;
  at = (at + 1) % 4;
  snprintf(text[at], sizeof text[at], "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
           question);
  return text[at];
}

static json_int_t count(aiinfra_cache *cache, const char *name)
{
  char *text;
  if (aiinfra_cache_stats(cache, &text, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  json_t *stats = json_loads(text, 0, NULL), *value = json_object_get(stats, name);
  if (value == NULL) value = json_object_get(json_object_get(stats, "gates"), name);
  assert_true(json_is_integer(value));
  json_int_t n = json_integer_value(value);
  json_decref(stats);
  aiinfra_string_free(text);
  return n;
}

static void clear(aiinfra_cache *cache)
{
  assert_int_equal(aiinfra_cache_clear(cache, NULL, NULL, &err), AIINFRA_OK);
}

static void test_tiers(void **state)
{
  aiinfra_cache *cache = must_open(NULL);
  const char *request = ask("What is the capital of Peru?");
  (void)state;
  assert_string_equal(tier_of(cache, NULL, request), "");
  int64_t id = store_as(cache, NULL, 0, request, "{\"choices\":[],\"usage\":{\"total_tokens\":42}}");
  assert_true(id > 0);
  json_t *found = look_as(cache, NULL, request);
  assert_string_equal(json_string_value(json_object_get(found, "tier")), "exact");
  assert_int_equal(json_integer_value(json_object_get(found, "id")), id);
  assert_true(json_object_get(json_object_get(found, "response"), "choices") != NULL);
  assert_true(json_integer_value(json_object_get(found, "age_ms")) >= 0);
  json_decref(found);
  assert_string_equal(tier_of(cache, NULL, ask("could you tell me what the capital of Peru is")), "semantic");
  assert_string_equal(tier_of(cache, NULL, ask("What is the capital of Chile?")), "");
  assert_string_equal(tier_of(cache, NULL, ask("What is not the capital of Peru?")), "");
  assert_int_equal(count(cache, "hits_exact"), 1);
  assert_int_equal(count(cache, "hits_semantic"), 1);
  assert_int_equal(count(cache, "misses"), 3);
  assert_int_equal(count(cache, "lookups"), 5);
  assert_int_equal(count(cache, "entity"), 1);
  assert_int_equal(count(cache, "negation"), 1);
  assert_int_equal(count(cache, "saved_tokens"), 84);
  clear(cache);
  assert_int_equal(count(cache, "entries"), 0);
  assert_int_equal(count(cache, "lookups"), 0);
  aiinfra_cache_free(cache);
}

/* Whatever differs besides the question keeps an answer back, however near the question is. */
static void test_partitions(void **state)
{
  static const char *const others[] = {
      "{\"model\":\"n\",\"messages\":[{\"role\":\"user\",\"content\":\"What is it?\"}]}",
      "{\"model\":\"m\",\"temperature\":1,\"messages\":[{\"role\":\"user\",\"content\":\"What is it?\"}]}",
      "{\"model\":\"m\",\"tools\":[],\"messages\":[{\"role\":\"user\",\"content\":\"What is it?\"}]}",
      "{\"model\":\"m\",\"user\":\"ann\",\"messages\":[{\"role\":\"user\",\"content\":\"What is it?\"}]}",
      "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"\"},{\"role\":\"user\",\"content\":\"What is "
      "it?\"}]}",
      "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Yes?"
      "\"},"
      "{\"role\":\"user\",\"content\":\"What is it?\"}]}",
      "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":\"What is it?\"}]}",
      "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"name\":\"bob\",\"content\":\"What is it?\"}]}",
      "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"What is it?\"}]}]}",
  };
  aiinfra_cache *cache = must_open(NULL);
  (void)state;
  (void)store_as(cache, "a", 0, ask("What is it?"), "{}");
  assert_string_equal(tier_of(cache, "a", ask("what is it")), "semantic");
  assert_string_equal(tier_of(cache, "b", ask("What is it?")), "");
  assert_string_equal(tier_of(cache, NULL, ask("What is it?")), "");
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
    assert_string_equal(tier_of(cache, "a", others[i]), "");
    (void)store_as(cache, "a", 0, others[i], "{}");
    assert_string_equal(tier_of(cache, "a", others[i]), "exact");
  }
  /* the order of members, and how the answer travels, tell nothing */
  assert_string_equal(tier_of(cache, "a",
                              "{\"stream\":true,\"messages\":[{\"content\":\"What is it?\",\"role\":\"user\"}],"
                              "\"cache\":true,\"model\":\"m\"}"),
                      "exact");
  uint64_t n;
  assert_int_equal(aiinfra_cache_clear(cache, "b", &n, &err), AIINFRA_OK);
  assert_int_equal(n, 0);
  assert_int_equal(aiinfra_cache_clear(cache, "a", &n, &err), AIINFRA_OK);
  assert_int_equal(n, 1 + sizeof others / sizeof others[0]);
  assert_int_equal(count(cache, "entries"), 0);
  assert_int_equal(count(cache, "bytes"), 0);
  clear(cache);
  aiinfra_cache_free(cache);
}

/* Many who ask the same few questions in changing words: whoever is answered is answered with what was stored for
 * the same tenant and the same request. */
static void test_random_partitions(void **state)
{
  static const char *const tenants[] = {"", "a", "b", "ab", "a\",\"b", "A", "\xC3\xA4"};
  static const char *const models[] = {"m", "n", "m\\\"", "mm"}, *const systems[] = {"", "x", "y", "x y"};
  static const char *const asks[] = {"What is love?",        "what is love",           "Tell me what love is",
                                     "What is not love?",    "what is the cost of 5",  "What is the cost of 6?",
                                     "How do I open a box?", "how can i open the box", "How do I close a box?"};
  unsigned long long seed = test_seed();
  aiinfra_cache *cache = must_open(NULL);
  size_t hits = 0;
  (void)state;
  for (int i = 0; i < 3000; i++) {
    char request[512], response[256];
    size_t t = test_random(&seed) % 7, m = test_random(&seed) % 4, y = test_random(&seed) % 4,
           temperature = test_random(&seed) % 3;
    const char *tenant = tenants[t], *system = systems[y];
    snprintf(request, sizeof request,
             "{\"model\":\"%s\",\"temperature\":%zu,\"messages\":[{\"role\":\"system\",\"content\":\"%s\"},{\"role\":"
             "\"user\",\"content\":\"%s\"}]}",
             models[m], temperature, system, asks[test_random(&seed) % 9]);
    snprintf(response, sizeof response, "{\"owner\":%zu}", ((t * 4 + m) * 4 + y) * 3 + temperature);
    json_t *found = look_as(cache, tenant, request);
    if (json_is_true(json_object_get(found, "hit"))) {
      const json_t *owner = json_object_get(json_object_get(found, "response"), "owner");
      assert_int_equal(json_integer_value(owner), (json_int_t)(((t * 4 + m) * 4 + y) * 3 + temperature));
      hits++;
    } else {
      assert_true(store_as(cache, tenant, 0, request, response) > 0);
    }
    json_decref(found);
  }
  assert_true(hits > 300);
  clear(cache);
  aiinfra_cache_free(cache);
}

/* What one request asks of the cache beside what the cache does by its options. */
static void test_queries(void **state)
{
  aiinfra_cache *cache = must_open(NULL);
  aiinfra_cache_query query = AIINFRA_CACHE_QUERY_INIT;
  static const char cut[] = "{\"choices\":[{\"finish_reason\":\"length\",\"message\":{}}]}",
                    call[] = "{\"choices\":[{\"finish_reason\":\"tool_calls\",\"message\":{}}]}";
  int64_t id;
  char *text;
  (void)state;
  query.request_json = ask("Is it hot?");
  query.keep_cut = 1;
  assert_int_equal(aiinfra_cache_store(cache, &query, call, &id, &err), AIINFRA_OK);
  assert_int_equal(id, 0);
  assert_int_equal(aiinfra_cache_store(cache, &query, cut, &id, &err), AIINFRA_OK);
  assert_true(id > 0);
  assert_string_equal(tier_of(cache, NULL, ask("is it hot")), "semantic");
  query.request_json = ask("is it hot");
  query.exact_only = 1;
  assert_int_equal(aiinfra_cache_lookup(cache, &query, &text, &err), AIINFRA_OK);
  assert_non_null(strstr(text, "\"hit\":false"));
  aiinfra_string_free(text);
  query.exact_only = 2;
  assert_int_equal(aiinfra_cache_lookup(cache, &query, &text, &err), AIINFRA_EINVAL);
  clear(cache);
  aiinfra_cache_free(cache);
}

static void test_left_out(void **state)
{
  aiinfra_cache_opts opts = AIINFRA_CACHE_OPTS_INIT;
  aiinfra_cache *cache = must_open(NULL);
  static const char cut[] = "{\"choices\":[{\"finish_reason\":\"length\",\"message\":{}}]}",
                    call[] = "{\"choices\":[{\"message\":{\"tool_calls\":[{}]}}]}";
  (void)state;
  assert_int_equal(store_as(cache, NULL, 0, ask("Is it hot?"), cut), 0);
  assert_int_equal(store_as(cache, NULL, 0, ask("Is it hot?"), call), 0);
  assert_int_equal(store_as(cache, NULL, 0, ask("Is it hot?"), "{\"error\":{}}"), 0);
  assert_int_equal(store_as(cache, NULL, 0, ask("Is it hot today?"), "{}"), 0);
  assert_int_equal(count(cache, "left_out"), 4);
  opts.keep_timely = opts.keep_partial = 1;
  aiinfra_cache *keeps = must_open(&opts);
  assert_true(store_as(keeps, NULL, 0, ask("Is it hot?"), call) > 0);
  assert_true(store_as(keeps, NULL, 0, ask("Is it hot today?"), "{}") > 0);
  assert_string_equal(tier_of(keeps, NULL, ask("is it hot today")), "semantic");
  assert_string_equal(tier_of(cache, NULL, ask("is it hot today")), ""); /* what another handle kept */
  assert_string_equal(tier_of(cache, NULL, ask("Is it hot today?")), "");
  assert_int_equal(count(cache, "timely"), 2);
  clear(cache);
  aiinfra_cache_free(keeps);
  opts = (aiinfra_cache_opts)AIINFRA_CACHE_OPTS_INIT;
  opts.semantic = -1;
  aiinfra_cache *exact = must_open(&opts);
  assert_true(store_as(exact, NULL, 0, ask("Is it hot?"), "{}") > 0);
  assert_string_equal(tier_of(exact, NULL, ask("is it hot")), "");
  assert_string_equal(tier_of(exact, NULL, ask("Is it hot?")), "exact");
  clear(exact);
  aiinfra_cache_free(exact);
  aiinfra_cache_free(cache);
}

static void test_time(void **state)
{
  aiinfra_cache *cache = must_open(NULL);
  struct timespec nap = {0, 30 * 1000 * 1000};
  (void)state;
  (void)store_as(cache, NULL, 10, ask("one"), "{\"n\":1}");
  (void)store_as(cache, NULL, -1, ask("two"), "{\"n\":2}");
  nanosleep(&nap, NULL);
  assert_string_equal(tier_of(cache, NULL, ask("one")), "");
  assert_string_equal(tier_of(cache, NULL, ask("two")), "exact");
  (void)store_as(cache, NULL, 0, ask("three"), "{\"n\":3}");
  assert_int_equal(count(cache, "expired"), 1);
  assert_int_equal(count(cache, "entries"), 2);
  (void)store_as(cache, NULL, 0, ask("two"), "{\"n\":4}"); /* the newer answer */
  json_t *found = look_as(cache, NULL, ask("two"));
  assert_int_equal(json_integer_value(json_object_get(json_object_get(found, "response"), "n")), 4);
  json_decref(found);
  assert_int_equal(count(cache, "entries"), 2);
  clear(cache);
  aiinfra_cache_free(cache);
}

static void test_bounds(void **state)
{
  aiinfra_cache_opts opts = AIINFRA_CACHE_OPTS_INIT;
  char question[64], *big = malloc(40000);
  (void)state;
  opts.max_entries = 3;
  aiinfra_cache *cache = must_open(&opts);
  for (int i = 0; i < 3; i++) {
    snprintf(question, sizeof question, "question %d", i);
    (void)store_as(cache, NULL, 0, ask(question), "{}");
  }
  assert_string_equal(tier_of(cache, NULL, ask("question 0")), "exact"); /* used last: stays */
  (void)store_as(cache, NULL, 0, ask("question 3"), "{}");
  (void)store_as(cache, NULL, 0, ask("question 4"), "{}");
  assert_int_equal(count(cache, "entries"), 3);
  assert_int_equal(count(cache, "evicted"), 2);
  assert_string_equal(tier_of(cache, NULL, ask("question 1")), "");
  assert_string_equal(tier_of(cache, NULL, ask("question 2")), "");
  assert_string_equal(tier_of(cache, NULL, ask("question 0")), "exact");
  aiinfra_cache_free(cache);
  opts.max_bytes = 30000;
  cache = must_open(&opts);
  snprintf(big, 40000, "{\"a\":\"%0*d\"}", 20000, 7);
  assert_true(store_as(cache, NULL, 0, ask("big one"), big) > 0);
  assert_true(count(cache, "bytes") <= 30000);
  assert_true(store_as(cache, NULL, 0, ask("big two"), big) > 0);
  assert_int_equal(count(cache, "entries"), 1);
  snprintf(big, 40000, "{\"a\":\"%0*d\"}", 35000, 7);
  assert_int_equal(store_as(cache, NULL, 0, ask("too big"), big), 0);
  assert_string_equal(tier_of(cache, NULL, ask("big two")), "exact");
  clear(cache);
  aiinfra_cache_free(cache);
  free(big);
}

static void test_false_hits(void **state)
{
  aiinfra_cache *cache = must_open(NULL);
  aiinfra_cache_query query = AIINFRA_CACHE_QUERY_INIT;
  const char *first = ask("How do I reset my router?"), *far = ask("Hello, what is the best way to reset my router?");
  (void)state;
  int64_t id = store_as(cache, NULL, 0, first, "{}");
  assert_string_equal(tier_of(cache, NULL, far), "semantic");
  query.request_json = far;
  assert_int_equal(aiinfra_cache_report_false(cache, id, &query, &err), AIINFRA_OK);
  assert_string_equal(tier_of(cache, NULL, far), "");
  assert_string_equal(tier_of(cache, NULL, first), "");
  (void)store_as(cache, NULL, 0, first, "{}"); /* answered anew: still not for the far one, but for a nearer one */
  assert_string_equal(tier_of(cache, NULL, far), "");
  assert_int_equal(count(cache, "threshold"), 1);
  assert_string_equal(tier_of(cache, NULL, ask("how do i reset my router")), "semantic");
  assert_string_equal(tier_of(cache, NULL, first), "exact");
  id = store_as(cache, NULL, 0, first, "{}");
  assert_int_equal(aiinfra_cache_report_false(cache, id, NULL, &err), AIINFRA_OK);
  (void)store_as(cache, NULL, 0, first, "{}");
  assert_string_equal(tier_of(cache, NULL, ask("how do i reset my router")), "");
  assert_string_equal(tier_of(cache, NULL, first), "exact");
  assert_int_equal(aiinfra_cache_report_false(cache, 12345, NULL, &err), AIINFRA_ENOENT);
  assert_int_equal(count(cache, "false_hits"), 2);
  clear(cache);
  aiinfra_cache_free(cache);
}

static void test_shadow(void **state)
{
  aiinfra_cache_opts opts = AIINFRA_CACHE_OPTS_INIT;
  (void)state;
  opts.shadow = 1;
  aiinfra_cache *cache = must_open(&opts);
  (void)store_as(cache, NULL, 0, ask("Is tea hot?"), "{\"n\":1}");
  json_t *found = look_as(cache, NULL, ask("is tea hot"));
  assert_true(json_is_false(json_object_get(found, "hit")));
  json_t *would = json_object_get(found, "would");
  assert_string_equal(json_string_value(json_object_get(would, "tier")), "semantic");
  assert_string_equal(json_string_value(json_object_get(would, "question")), "Is tea hot?");
  json_decref(found);
  found = look_as(cache, NULL, ask("is tea not hot"));
  json_t *nearest = json_object_get(found, "nearest");
  assert_string_equal(json_string_value(json_object_get(nearest, "gate")), "negation");
  assert_true(json_number_value(json_object_get(nearest, "similarity")) > 0.9);
  json_decref(found);
  assert_int_equal(count(cache, "would_have_hit"), 1);
  assert_int_equal(count(cache, "hits_semantic"), 0);
  clear(cache);
  aiinfra_cache_free(cache);
}

static void test_arguments(void **state)
{
  static const char *const bad[] = {"", "[]", "{}", "{\"messages\":[]}", "{\"messages\":3}", "{\"messages\":"};
  aiinfra_cache_opts opts = AIINFRA_CACHE_OPTS_INIT;
  aiinfra_cache *cache;
  aiinfra_cache_query query = AIINFRA_CACHE_QUERY_INIT;
  char *text;
  (void)state;
  opts.threshold = NAN;
  assert_int_equal(aiinfra_cache_open(db, &opts, &cache, &err), AIINFRA_EINVAL);
  assert_null(cache);
  opts.threshold = 1.5f;
  assert_int_equal(aiinfra_cache_open(db, &opts, &cache, &err), AIINFRA_EINVAL);
  opts.threshold = 0;
  opts.ttl_ms = -2;
  assert_int_equal(aiinfra_cache_open(db, &opts, &cache, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_cache_open(NULL, NULL, &cache, &err), AIINFRA_EINVAL);
  cache = must_open(NULL);
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    query.request_json = bad[i];
    assert_int_equal(aiinfra_cache_lookup(cache, &query, &text, &err), AIINFRA_EINVAL);
    assert_null(text);
    assert_int_equal(aiinfra_cache_store(cache, &query, "{}", NULL, &err), AIINFRA_EINVAL);
  }
  query.request_json = ask("x");
  assert_int_equal(aiinfra_cache_store(cache, &query, "[]", NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_cache_store(cache, &query, "{", NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_cache_store(cache, &query, NULL, NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_cache_lookup(cache, NULL, &text, &err), AIINFRA_EINVAL);
  aiinfra_cache_free(cache);
  aiinfra_cache_free(NULL);
}

/* Entries and counts outlive the handle. */
static void test_stays(void **state)
{
  aiinfra_cache *cache = must_open(NULL);
  (void)state;
  (void)store_as(cache, NULL, 0, ask("Is tea hot?"), "{}");
  for (int i = 0; i < 100; i++) assert_string_equal(tier_of(cache, NULL, ask("Is tea hot?")), "exact");
  aiinfra_cache_free(cache);
  cache = must_open(NULL);
  assert_int_equal(count(cache, "hits_exact"), 100);
  assert_string_equal(tier_of(cache, NULL, ask("is tea hot")), "semantic");
  clear(cache);
  aiinfra_cache_free(cache);
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
}

static int set_up(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, &err) || aiinfra_db_open(rt, test_db("cache.db"), NULL, &db, &err);
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
      cmocka_unit_test(test_tiers),     cmocka_unit_test(test_partitions), cmocka_unit_test(test_random_partitions),
      cmocka_unit_test(test_queries),   cmocka_unit_test(test_left_out),   cmocka_unit_test(test_time),
      cmocka_unit_test(test_bounds),    cmocka_unit_test(test_false_hits), cmocka_unit_test(test_shadow),
      cmocka_unit_test(test_arguments), cmocka_unit_test(test_stays),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
