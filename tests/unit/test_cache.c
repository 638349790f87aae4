/* test_cache.c - the response cache over a thousand pairs of questions: what it serves, and what it must never serve. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/cache/cache.h"
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

static char *request(const char *question)
{
  json_t *body = json_pack("{s:s, s:[{s:s, s:s}, {s:s, s:s}]}", "model", "m", "messages", "role", "system", "content",
                           "Be brief.", "role", "user", "content", question);
  char *text = json_dumps(body, JSON_COMPACT);
  json_decref(body);
  return text;
}

static char tenant[32];

static int64_t store(aiinfra_cache *cache, const char *question)
{
  aiinfra_cache_query query = AIINFRA_CACHE_QUERY_INIT;
  query.tenant = tenant;
  char *text = request(question);
  int64_t id;
  query.request_json = text;
  if (aiinfra_cache_store(cache, &query, "{\"answer\":1}", &id, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  free(text);
  return id;
}

static json_t *look(aiinfra_cache *cache, const char *question)
{
  aiinfra_cache_query query = AIINFRA_CACHE_QUERY_INIT;
  char *text = request(question), *json;
  query.request_json = text;
  query.tenant = tenant;
  if (aiinfra_cache_lookup(cache, &query, &json, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  json_t *found = json_loads(json, 0, NULL);
  assert_non_null(found);
  aiinfra_string_free(json);
  free(text);
  return found;
}

static bool hits(aiinfra_cache *cache, const char *question)
{
  json_t *found = look(cache, question);
  bool hit = json_is_true(json_object_get(found, "hit"));
  json_decref(found);
  return hit;
}

/* A line is kind, reason and two questions, with tabs between. */
static char *next_field(char **line)
{
  char *field = *line, *tab = strchr(field, '\t');
  if (tab == NULL) return field;
  *tab = '\0';
  *line = tab + 1;
  return field;
}

typedef struct tally {
  size_t n[2], served[2]; /* of look-alikes, of paraphrases */
} tally;

/* Each question of each pair is asked when only the other one is known. half: -1, or of each kind every second pair. */
static tally ask_pairs(const char *path, int half, const aiinfra_cache_opts *opts, bool tell)
{
  aiinfra_cache *cache = must_open(opts);
  char *file = test_read_file(test_path(path), NULL), *next = NULL;
  tally all = {{0, 0}, {0, 0}};
  size_t *n = all.n, *served = all.served, seen[2] = {0, 0};
  assert_non_null(file);
  assert_int_equal(aiinfra_cache_clear(cache, NULL, NULL, &err), AIINFRA_OK);
  for (char *line = file; line != NULL && *line != '\0'; line = next) {
    char *end = strchr(line, '\n'), *at = line;
    if (end != NULL) *end = '\0';
    next = end != NULL ? end + 1 : NULL;
    char kind = next_field(&at)[0];
    bool same = kind == 's' || kind == 'P';
    if (half >= 0 && (int)(seen[same]++ % 2) != half) continue;
    (void)next_field(&at);
    const char *one = next_field(&at), *two = at;
    for (int turn = 0; turn < 2; turn++) {
      snprintf(tenant, sizeof tenant, "%zu.%d", n[0] + n[1], turn);
      if (store(cache, turn == 0 ? one : two) == 0) continue; /* its answer depends on the time: never kept */
      bool hit = hits(cache, turn == 0 ? two : one);
      if (hit && !same && tell) fail_msg("served '%s' for '%s'", turn == 0 ? one : two, turn == 0 ? two : one);
      served[same] += hit && turn == 0;
    }
    n[same]++;
  }
  printf("%s%s: %zu of %zu look-alikes accepted, %zu of %zu paraphrases served (%.1f %%)\n", path,
         half == 0   ? ", first half"
         : half == 1 ? ", second half"
                     : "",
         served[0], n[0], served[1], n[1], 100.0 * (double)served[1] / (double)n[1]);
  free(file);
  aiinfra_cache_free(cache);
  return all;
}

static void test_pairs(void **state)
{
  (void)state;
  tally all = ask_pairs("tests/data/cache_pairs.tsv", -1, NULL, true);
  assert_int_equal(all.n[0], 500);
  assert_int_equal(all.n[1], 500);
  assert_int_equal(all.served[0], 0);
  assert_true(all.served[1] * 10 >= all.n[1] * 6);
}

/* Pairs that were written before their author had seen the rules. The misses of the first half were looked at later, those
 * of the second never. */
static void test_blind_pairs(void **state)
{
  (void)state;
  for (int half = 0; half < 2; half++) {
    tally all = ask_pairs("tests/data/cache_pairs_blind.tsv", half, NULL, true);
    assert_int_equal(all.n[0], 100);
    assert_int_equal(all.n[1], 80);
    assert_int_equal(all.served[0], 0);
    assert_true(all.served[1] * 100 >= all.n[1] * (half == 0 ? 35 : 20));
  }
}

/* Pairs that were made to break the rules. */
static void test_attacks(void **state)
{
  aiinfra_cache_opts wide = AIINFRA_CACHE_OPTS_INIT;
  (void)state;
  tally all = ask_pairs("tests/data/cache_pairs_attack.tsv", -1, NULL, true);
  assert_true(all.n[0] >= 300);
  assert_int_equal(all.served[0], 0);
  wide.semantic = 2;
  tally more = ask_pairs("tests/data/cache_pairs_attack.tsv", -1, &wide, false);
  assert_true(more.served[1] > all.served[1]);
  more = ask_pairs("tests/data/cache_pairs_blind.tsv", -1, &wide, true);
  assert_int_equal(more.served[0], 0);
}

/* The wording keeps what carries meaning, and undoes what does not. */
static void test_wordings(void **state)
{
  static const char *const wordings[][2] = {
      {"Hi! Could you please tell me what the capital of France is? Thanks!", "what is france capital"},
      {"What's France's capital?", "what is france capital"},
      {"In Python, how can I sort a list?", "howto sort list in python"},
      {"Explain how TCP works.", "how do tcp work"},
      {"Why isn't my code compiling?", "why is n't my code compiling"},
      {"Why is my code not compiling?", "why is n't my code compiling"},
      {"Is smoking not healthy?", "is n't smoking healthy"},
      {"Is not smoking healthy?", "is not smoking healthy"},
      {"How far is it to London from Paris?", "what is distance between london and paris"},
      {"How far is it to London from Paris by train?", "how far is it from paris to london by train"},
      {"What are the steps for changing a tyre?", "howto change tire"},
      {"git: how to undo a merge", "howto undo merge in git"},
      {"What's the git command to undo a merge?", "howto undo merge in git"},
      {"Who was the author of Emma?", "who wrote emma"},
      {"How tall is Mount Everest?", "what is mount everest height"},
      {"Is it okay for dogs to eat grapes?", "can dog eat grape"},
      {"How do I write a Python interpreter?", "howto write python interpreter"},
      {"How do I replace milk with water?", "howto replace milk with water"},
      {"How do I clean a glass of wine?", "howto clean glass of wine"},
      {"What does the word big mean?", "what do the word big mean"},
      {"C++ or C#?", "c++ or c# ?"},
      {"How big is the US?", "how big is the @US"},
      {"What is 5!?", "what is 5!"},
      {"What is f(x) = -1.5?", "what is f(x) = -1.5"},
      {"Qu'est-ce que la TVA ?", "qu'est-ce que la tva ?"},
  };
  aii_mem mem;
  aii_buf out;
  (void)state;
  aii_mem_init(&mem, NULL, 0);
  aii_buf_init(&out, &mem, 0);
  for (size_t i = 0; i < AII_COUNT(wordings); i++) {
    aii_buf_clear(&out);
    assert_true(aii_wording(wordings[i][0], strlen(wordings[i][0]), AII_WORDING_QUESTION, &out));
    assert_string_equal(out.data, wordings[i][1]);
  }
  static const char lines[] = "if x:\n  y", code[] = "what is `x`", none[] = "...";
  assert_false(aii_wording(lines, sizeof lines - 1, AII_WORDING_QUESTION, &out));
  assert_false(aii_wording(code, sizeof code - 1, AII_WORDING_QUESTION, &out));
  assert_false(aii_wording(none, sizeof none - 1, AII_WORDING_QUESTION, &out));
  char big[600];
  memset(big, 'a', sizeof big);
  assert_false(aii_wording(big, sizeof big, AII_WORDING_QUESTION, &out));
  for (size_t i = 0; i < sizeof big; i += 2) big[i] = ' ';
  assert_false(aii_wording(big, 512, AII_WORDING_QUESTION, &out)); /* too many words */
  aii_buf_free(&out);
}

static void test_gates(void **state)
{
  static const struct {
    const char *a, *b, *gate;
  } pairs[] = {
      {"i like tea", "i do not like tea", "negation"},
      {"2 cats", "3 cats", "number"},
      {"open on monday", "open on friday", "time"},
      {"ann pays bob", "bob pays ann", "order"},
      {"green tea", "black tea", "words"},
      {"same", "same", "none"},
  };
  (void)state;
  for (size_t i = 0; i < AII_COUNT(pairs); i++)
    assert_string_equal(aii_gate_name(aii_gate_between(pairs[i].a, pairs[i].b, pairs[i].a)), pairs[i].gate);
  assert_string_equal(aii_gate_name(aii_gate_between("is lima big", "is rome big", "Is Lima big?")), "entity");
  assert_true(aii_wording_is_timely("what is open today"));
  assert_true(aii_wording_is_timely("who won last week"));
  assert_false(aii_wording_is_timely("who is last"));
}

/* Text of every kind: no wording is made of what cannot be read, and making one twice gives the same. */
static void test_any_text(void **state)
{
  unsigned long long seed = test_seed();
  static const char *const bits[] = {"what",     "is",    "'s",    "not",     " ",   " ",        " ",      "\"",
                                     "(",        ")",     "?",     "!",       ",",   "how do i", "please", "tell me",
                                     "in",       "to",    "from",  "between", "and", "\xC3\xA9", "\xFF",   "US",
                                     "France's", "1,000", "don't", "the",     "a",   "of"};
  aii_mem mem;
  aii_buf one, two;
  (void)state;
  aii_mem_init(&mem, NULL, 0);
  aii_buf_init(&one, &mem, 0);
  aii_buf_init(&two, &mem, 0);
  for (int i = 0; i < 20000; i++) {
    char text[256] = "";
    for (size_t k = 0, n = 1 + test_random(&seed) % 16; k < n; k++) {
      strncat(text, bits[test_random(&seed) % AII_COUNT(bits)], 16);
      if (test_random(&seed) % 3 > 0) strncat(text, " ", 2);
    }
    aii_buf_clear(&one);
    aii_buf_clear(&two);
    bool made = aii_wording(text, strlen(text), (aii_wording_kind)(i % 2), &one);
    assert_true(made == aii_wording(text, strlen(text), (aii_wording_kind)(i % 2), &two));
    if (!made) continue;
    assert_true(aii_utf8_valid(text, strlen(text)));
    assert_string_equal(aii_buf_cstr(&one), aii_buf_cstr(&two));
    assert_true(one.len > 0);
  }
  aii_buf_free(&one);
  aii_buf_free(&two);
}

static int set_up(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, &err) || aiinfra_db_open(rt, ":memory:", NULL, &db, &err);
}

static int tear_down(void **state)
{
  (void)state;
  aiinfra_db_free(db);
  bool leaked = rt->refs != 1;
  aiinfra_runtime_free(rt);
  return leaked;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_pairs),    cmocka_unit_test(test_blind_pairs), cmocka_unit_test(test_attacks),
      cmocka_unit_test(test_wordings), cmocka_unit_test(test_gates),       cmocka_unit_test(test_any_text),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
