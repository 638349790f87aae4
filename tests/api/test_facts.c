/* test_facts.c - facts in time as a host uses them: the ladder of sameness, two times, scores, forgetting, moving. */
#include "facts.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t add(aiinfra_memory *memory, const char *text, const aiinfra_fact_opts *opts, const char *outcome)
{
  char *out;
  must(aiinfra_memory_add_fact(memory, text, opts, &out, &err));
  json_t *told = parse(out);
  assert_string_equal(json_string_value(json_object_get(told, "outcome")), outcome);
  int64_t id = json_integer_value(json_object_get(told, "id"));
  json_decref(told);
  return id;
}

static json_t *recall(aiinfra_memory *memory, const char *question, const aiinfra_recall_opts *opts)
{
  char *out;
  must(aiinfra_memory_recall(memory, question, opts, &out, &err));
  return parse(out);
}

static json_t *facts(aiinfra_memory *memory, const aiinfra_facts_opts *opts)
{
  char *out;
  must(aiinfra_memory_facts(memory, opts, &out, &err));
  return parse(out);
}

static json_t *history(aiinfra_memory *memory, int64_t id)
{
  char *out;
  must(aiinfra_memory_fact_history(memory, id, &out, &err));
  return parse(out);
}

static const char *text_at(json_t *items, size_t at, const char *key)
{
  const char *text = json_string_value(json_object_get(json_array_get(items, at), key));
  return text != NULL ? text : "";
}

static json_int_t int_at(json_t *items, size_t at, const char *key)
{
  return json_integer_value(json_object_get(json_array_get(items, at), key));
}

static int64_t now_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* So that what follows has a later time. */
static int64_t tick(void)
{
  struct timespec nap = {0, 3 * 1000 * 1000};
  nanosleep(&nap, NULL);
  int64_t now = now_ms();
  nanosleep(&nap, NULL);
  return now;
}

/* One of each pair is known: the other is the same, or a fact of its own. */
static void test_ladder(void **state)
{
  static const struct {
    const char *one, *two, *outcome;
  } pairs[] = {
      {"My cat is called Miso.", "  my CAT is\ncalled miso. ", "same"},
      {"I don't eat meat.", "I do not eat meat", "near"},
      {"Bob owns two dogs", "Bob owns 2 dogs!", "near"},
      {"The budget is 1,000 euros.", "The budget is 1000 euros.", "near"},
      {"I like tea", "I do not like tea", "new"},
      {"I like tea", "I like coffee", "new"},
      {"The port is 7420", "The port is 7421", "new"},
      {"Ann manages Bob", "Bob manages Ann", "new"},
      {"Ann manages Bob", "Ann manages Bob?", "new"},
      {"We ship to the US", "We ship to the us", "new"},
      {"Ann lives in Paris", "Ann lived in Paris", "new"},
      {"Ann is the doctor", "Ann is a doctor", "new"},
      {"The code is in C++", "The code is in C", "new"},
      {"Always lock the door", "Never lock the door", "new"},
      {"The meeting is before noon", "The meeting is after noon", "new"},
      {"Say \"no\" to Bob", "Say no to Bob", "new"},
      {"Meet me at 5 pm", "Meet me at 5 am", "new"},
  };
  (void)state;
  for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
    for (int turn = 0; turn < 2; turn++) {
      char scope[32];
      snprintf(scope, sizeof scope, "ladder%zu.%d", i, turn);
      aiinfra_memory *memory = must_open(scope);
      int64_t first = add(memory, turn == 0 ? pairs[i].one : pairs[i].two, NULL, "new");
      int64_t second = add(memory, turn == 0 ? pairs[i].two : pairs[i].one, NULL, pairs[i].outcome);
      assert_true((first == second) == (strcmp(pairs[i].outcome, "new") != 0));
      aiinfra_memory_free(memory);
    }
  }
  aiinfra_memory *memory = must_open("ladder");
  aiinfra_fact_opts opts = AIINFRA_FACT_OPTS_INIT;
  int64_t id = add(memory, "I don't eat meat.", NULL, "new");
  opts.keep_near = 1;
  assert_true(add(memory, "I do not eat meat", &opts, "new") != id);
  opts = (aiinfra_fact_opts)AIINFRA_FACT_OPTS_INIT;
  opts.valid_from_ms = 1000;
  opts.valid_to_ms = 2000;
  id = add(memory, "Bob leads the team", &opts, "new"); /* two terms of office are two facts */
  opts.valid_from_ms = 3000;
  opts.valid_to_ms = 4000;
  assert_true(add(memory, "Bob leads the team", &opts, "new") != id);
  assert_int_equal(add(memory, "Bob leads the team", &opts, "same"), id + 1);
  aiinfra_memory_free(memory);
}

static size_t count_at(aiinfra_memory *memory, int64_t as_of, int64_t known_at, const char *text)
{
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  aiinfra_facts_opts list = AIINFRA_FACTS_OPTS_INIT;
  size_t n[2] = {0, 0};
  opts.k = 20;
  opts.as_of_ms = list.as_of_ms = as_of;
  opts.known_at_ms = list.known_at_ms = known_at;
  json_t *both[2] = {recall(memory, text, &opts), facts(memory, &list)};
  for (int b = 0; b < 2; b++) {
    for (size_t i = 0; i < json_array_size(both[b]); i++) n[b] += strcmp(text_at(both[b], i, "text"), text) == 0;
    json_decref(both[b]);
  }
  assert_int_equal(n[0], n[1]); /* both reads see the same */
  return n[0];
}

static void test_two_times(void **state)
{
  static const char porto[] = "I live in Porto", lisbon[] = "I live in Lisbon", faro[] = "I live in Faro";
  aiinfra_memory *memory = must_open("times");
  aiinfra_fact_opts opts = AIINFRA_FACT_OPTS_INIT;
  int64_t second, third, again;
  (void)state;
  opts.valid_from_ms = 1000000;
  opts.source = "a letter";
  int64_t first = add(memory, porto, &opts, "new"), t0 = tick();
  opts = (aiinfra_fact_opts)AIINFRA_FACT_OPTS_INIT;
  opts.valid_from_ms = 2000000;
  must(aiinfra_memory_supersede(memory, first, lisbon, &opts, &second, &err)); /* moved, as was learnt just now */
  int64_t t1 = tick();
  must(aiinfra_memory_revise(memory, second, faro, NULL, &third, &err)); /* it had been Faro all the time */
  assert_true(first < second && second < third);

  assert_int_equal(count_at(memory, 0, 0, porto), 0);
  assert_int_equal(count_at(memory, 0, 0, lisbon), 0);
  assert_int_equal(count_at(memory, 0, 0, faro), 1);
  assert_int_equal(count_at(memory, 1500000, 0, porto), 1); /* what held then, as is known now */
  assert_int_equal(count_at(memory, 1500000, 0, faro), 0);
  assert_int_equal(count_at(memory, 2500000, 0, faro), 1);
  assert_int_equal(count_at(memory, 2500000, t0, porto), 1); /* what was believed before the move was known */
  assert_int_equal(count_at(memory, 2500000, t1, lisbon), 1);
  assert_int_equal(count_at(memory, 2500000, t1, porto), 0);
  assert_int_equal(count_at(memory, 999999, 0, porto), 0);
  assert_int_equal(count_at(memory, 1500000, 500, porto), 0); /* nothing was known yet */

  json_t *all = history(memory, second);
  assert_int_equal(json_array_size(all), 3);
  assert_string_equal(text_at(all, 0, "state"), "ended");
  assert_string_equal(text_at(all, 1, "state"), "revised");
  assert_string_equal(text_at(all, 2, "state"), "current");
  assert_int_equal(int_at(all, 0, "valid_to_ms"), 2000000);
  assert_int_equal(int_at(all, 2, "valid_from_ms"), 2000000);
  assert_int_equal(int_at(all, 2, "previous"), second);
  assert_string_equal(text_at(all, 2, "source"), "a letter");
  json_decref(all);

  assert_int_equal(aiinfra_memory_revise(memory, first, "x", NULL, &again, &err), AIINFRA_EEXIST);
  assert_non_null(strstr(err.message, "next version"));
  assert_int_equal(aiinfra_memory_supersede(memory, second, "x", NULL, &again, &err), AIINFRA_EEXIST);
  assert_int_equal(again, 0);
  assert_int_equal(aiinfra_memory_revise(memory, 999999, "x", NULL, &again, &err), AIINFRA_ENOENT);
  opts.valid_from_ms = 1;
  assert_int_equal(aiinfra_memory_supersede(memory, third, "x", &opts, &again, &err), AIINFRA_EINVAL);
  assert_int_equal(count_at(memory, 0, 0, faro), 1); /* a refused change changes nothing */

  must(aiinfra_memory_supersede(memory, third, NULL, NULL, &again, &err)); /* it ends, nothing follows */
  assert_int_equal(again, 0);
  assert_int_equal(count_at(memory, 0, 0, faro), 0);
  assert_true(add(memory, porto, NULL, "new") > third); /* said again, it is a new fact */
  aiinfra_memory_free(memory);
}

/* A change that is known before it happens. */
static void test_future(void **state)
{
  aiinfra_memory *memory = must_open("future");
  aiinfra_fact_opts opts = AIINFRA_FACT_OPTS_INIT;
  int64_t id = add(memory, "The shop is open", NULL, "new"), next, now = now_ms();
  (void)state;
  opts.valid_from_ms = now + 1000000;
  must(aiinfra_memory_supersede(memory, id, "The shop is closed", &opts, &next, &err));
  assert_int_equal(count_at(memory, 0, 0, "The shop is open"), 1);
  assert_int_equal(count_at(memory, 0, 0, "The shop is closed"), 0);
  assert_int_equal(count_at(memory, now + 2000000, 0, "The shop is open"), 0);
  assert_int_equal(count_at(memory, now + 2000000, 0, "The shop is closed"), 1);
  assert_int_equal(aiinfra_memory_revise(memory, id, "x", NULL, NULL, &err), AIINFRA_EEXIST);
  opts.valid_from_ms = 0;
  opts.ttl_ms = 400; /* longer than a busy machine takes to write and look */
  opts.importance = 0.9f;
  id = add(memory, "The code is 1234", &opts, "new");
  assert_int_equal(count_at(memory, 0, 0, "The code is 1234"), 1);
  struct timespec nap = {0, 500 * 1000 * 1000};
  nanosleep(&nap, NULL);
  assert_int_equal(count_at(memory, 0, 0, "The code is 1234"), 0);
  uint64_t n;
  must(aiinfra_memory_expire(memory, &n, &err));
  assert_int_equal(n, 1);
  char *out;
  assert_int_equal(aiinfra_memory_fact_history(memory, id, &out, &err), AIINFRA_ENOENT);
  assert_non_null(strstr(err.message, "forgotten at"));
  must(aiinfra_memory_expire(memory, &n, &err));
  assert_int_equal(n, 0);
  aiinfra_memory_free(memory);
}

static double number_at(json_t *items, size_t at, const char *key)
{
  return json_number_value(json_object_get(json_array_get(items, at), key));
}

static void test_scores(void **state)
{
  aiinfra_memory *memory = must_open("scores");
  aiinfra_fact_opts opts = AIINFRA_FACT_OPTS_INIT;
  aiinfra_recall_opts how = AIINFRA_RECALL_OPTS_INIT;
  (void)state;
  opts.trust = 0.2f;
  opts.source = "a rumour";
  (void)add(memory, "The red boat belongs to Bob", &opts, "new");
  opts = (aiinfra_fact_opts)AIINFRA_FACT_OPTS_INIT;
  opts.importance = 1;
  int64_t ann = add(memory, "The red boat belongs to Ann", &opts, "new");
  json_t *items = recall(memory, "Who owns the red boat?", NULL);
  assert_string_equal(text_at(items, 0, "text"), "The red boat belongs to Ann");
  assert_true(number_at(items, 1, "score") < number_at(items, 0, "score") / 2); /* what is hardly trusted */
  assert_true(fabs(number_at(items, 1, "trust") - 0.2) < 1e-5);
  assert_string_equal(text_at(items, 1, "source"), "a rumour");
  assert_true(number_at(items, 0, "importance") == 1 && number_at(items, 0, "recency") == 1);
  assert_true(number_at(items, 0, "vector_score") > 0.3 && number_at(items, 0, "text_score") > 0);
  double plain = number_at(items, 0, "score");
  json_decref(items);
  for (int i = 0; i < 5; i++) must(aiinfra_memory_reinforce(memory, ann, &err));
  items = recall(memory, "Who owns the red boat?", NULL);
  assert_int_equal(int_at(items, 0, "reinforced"), 5);
  assert_true(number_at(items, 0, "score") > plain);
  json_decref(items);
  how.importance = how.reinforcement = how.recency = -1;
  items = recall(memory, "Who owns the red boat?", &how);
  assert_true(number_at(items, 0, "score") <= 1.0001);
  json_decref(items);
  assert_int_equal(aiinfra_memory_reinforce(memory, 99999, &err), AIINFRA_ENOENT);
  how.half_life_days = NAN;
  char *out;
  assert_int_equal(aiinfra_memory_recall(memory, "x", &how, &out, &err), AIINFRA_EINVAL);
  aiinfra_memory_free(memory);
}

/* What does not hold never takes the place of what does. */
static void test_enough(void **state)
{
  aiinfra_memory *memory = must_open("enough");
  aiinfra_fact_opts old = AIINFRA_FACT_OPTS_INIT;
  char text[96];
  (void)state;
  old.valid_from_ms = 1000;
  old.valid_to_ms = 2000;
  for (int i = 0; i < 200; i++) {
    snprintf(text, sizeof text, "the green boat %d", i);
    (void)add(memory, text, &old, "new");
  }
  for (int i = 0; i < 5; i++) {
    snprintf(text, sizeof text, "a boat, number %d, that is neither here nor green nor there", i);
    (void)add(memory, text, NULL, "new");
  }
  json_t *items = recall(memory, "the green boat", NULL);
  assert_int_equal(json_array_size(items), 5);
  assert_non_null(strstr(text_at(items, 0, "text"), "neither here"));
  json_decref(items);
  aiinfra_memory_free(memory);
}

static bool file_holds(const char *path, const void *bytes, size_t n)
{
  size_t size;
  char *file = test_read_file(path, &size);
  bool found = file != NULL && memmem(file, size, bytes, n) != NULL;
  free(file);
  return found;
}

static bool db_holds(const char *name, const char *word)
{
  char log[64];
  snprintf(log, sizeof log, "%s-wal", name);
  return file_holds(test_tmp(name), word, strlen(word)) || file_holds(test_tmp(log), word, strlen(word));
}

/* All versions, in rows, indexes, full text and log: gone, and the rest is there. */
static void test_forgotten(void **state)
{
  aiinfra_db *own;
  aiinfra_memory *memory;
  int64_t id, next;
  (void)state;
  must(aiinfra_db_open(rt, test_tmp("facts.db"), NULL, &own, &err));
  must(aiinfra_memory_open(own, NULL, &memory, &err));
  for (int i = 0; i < 200; i++) {
    char text[64];
    snprintf(text, sizeof text, "filler %d of many that stay", i);
    must(aiinfra_memory_remember(memory, text, NULL, NULL, &err));
  }
  must(aiinfra_memory_remember(memory, "The code is zanzibarxyz", "{\"m\":\"quetzalxyz\"}", &id, &err));
  must(aiinfra_memory_revise(memory, id, "The code is kilimanjaroxyz", NULL, &next, &err));
  must(aiinfra_memory_supersede(memory, next, "The code is serengetixyz", NULL, &next, &err));
  must(aiinfra_memory_append(memory, "talk", "{\"role\":\"user\",\"content\":\"okavangoxyz\"}", &err));
  must(aiinfra_memory_append(memory, "other", "{\"role\":\"user\",\"content\":\"stays\"}", &err));
  must(aiinfra_memory_set_block(memory, "goal", "see the namibxyz", &err));
  assert_true(db_holds("facts.db", "zanzibarxyz"));
  must(aiinfra_memory_forget(memory, next, &err));
  static const char *const gone[] = {"zanzibarxyz",    "anzibarxyz",   "quetzalxyz",
                                     "kilimanjaroxyz", "serengetixyz", "erengetixyz"};
  for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) assert_false(db_holds("facts.db", gone[i]));
  assert_int_equal(aiinfra_memory_forget(memory, id, &err), AIINFRA_ENOENT);
  assert_true(db_holds("facts.db", "okavangoxyz"));
  must(aiinfra_memory_forget_conversation(memory, "talk", &err));
  assert_false(db_holds("facts.db", "okavangoxyz"));
  assert_true(db_holds("facts.db", "stays"));
  assert_int_equal(aiinfra_memory_forget_conversation(memory, "talk", &err), AIINFRA_ENOENT);
  must(aiinfra_memory_forget_all(memory, &err));
  assert_false(db_holds("facts.db", "namibxyz") || db_holds("facts.db", "filler"));
  must(aiinfra_db_check(own, &err));
  aiinfra_memory_free(memory);
  aiinfra_db_free(own);
}

static void check_same(aiinfra_memory *a, aiinfra_memory *b)
{
  char *one, *two;
  must(aiinfra_memory_export(a, &one, &err));
  must(aiinfra_memory_export(b, &two, &err));
  char *x = one, *y = two;
  while (*x != '\0' && *y != '\0') {
    json_t *p = json_loads(x, JSON_DISABLE_EOF_CHECK, NULL), *q = json_loads(y, JSON_DISABLE_EOF_CHECK, NULL);
    static const char *const own[] = {"id", "chain", "previous"};
    for (size_t i = 0; i < 3; i++) {
      assert_int_equal(json_is_null(json_object_get(p, own[i])), json_is_null(json_object_get(q, own[i])));
      json_object_del(p, own[i]);
      json_object_del(q, own[i]);
    }
    assert_true(json_equal(p, q));
    json_decref(p);
    json_decref(q);
    x = strchr(x, '\n') + 1;
    y = strchr(y, '\n') + 1;
  }
  assert_true(*x == '\0' && *y == '\0');
  aiinfra_string_free(one);
  aiinfra_string_free(two);
}

static void test_moving(void **state)
{
  aiinfra_memory *from = must_open("from"), *to = must_open("to");
  aiinfra_fact_opts opts = AIINFRA_FACT_OPTS_INIT;
  int64_t id = add(from, "I live in \"Porto\"\nor near it", NULL, "new");
  uint64_t n;
  char *lines;
  (void)state;
  opts.metadata_json = "{\"k\":[1,2]}";
  opts.trust = 0.5f;
  opts.source = "Ann";
  must(aiinfra_memory_revise(from, id, "I live in Porto", &opts, &id, &err));
  must(aiinfra_memory_supersede(from, id, "I live in Faro", NULL, &id, &err));
  must(aiinfra_memory_reinforce(from, id, &err));
  must(aiinfra_memory_append(from, "c", "{\"role\": \"user\",\n \"content\": \"Hi\"}", &err));
  must(aiinfra_memory_set_block(from, "goal", "rest", &err));
  must(aiinfra_memory_export(from, &lines, &err));
  must(aiinfra_memory_import(to, lines, strlen(lines), &n, &err));
  assert_int_equal(n, 5);
  check_same(from, to);
  must(aiinfra_memory_import(to, lines, strlen(lines), &n, &err));
  assert_int_equal(n, 0);
  check_same(from, to);
  assert_int_equal(count_at(to, 0, 0, "I live in Faro"), 1);
  assert_int_equal(count_at(to, 0, 0, "I live in Porto"), 0);
  aiinfra_string_free(lines);
  static const char *const bad[] = {
      "{",
      "[]",
      "{\"type\":\"x\"}",
      "{\"type\":\"fact\"}",
      "{\"type\":\"fact\",\"text\":\" \"}",
      "{\"type\":\"fact\",\"text\":\"a\",\"trust\":2}",
      "{\"type\":\"fact\",\"text\":\"a\",\"recorded_ms\":-1}",
      "{\"type\":\"fact\",\"text\":\"a\",\"chain\":5}",
      "{\"type\":\"fact\",\"text\":\"a\",\"ended_ms\":5}",
      "{\"type\":\"fact\",\"text\":\"a\",\"metadata\":3}",
      "{\"type\":\"message\",\"conversation\":\"c\",\"seq\":1,\"message\":\"{}\"}",
      "{\"type\":\"message\",\"conversation\":\"\",\"seq\":1,\"message\":\"{\\\"role\\\":\\\"user\\\"}\"}",
      "{\"type\":\"block\",\"label\":\"\",\"text\":\"x\"}",
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    char text[256];
    aiinfra_memory *none = must_open("none");
    snprintf(text, sizeof text, "{\"type\":\"fact\",\"text\":\"good\"}\n\n%s\n", bad[i]);
    assert_int_equal(aiinfra_memory_import(none, text, strlen(text), &n, &err), AIINFRA_EINVAL);
    assert_non_null(strstr(err.message, "line 3"));
    json_t *left = facts(none, NULL); /* all or nothing */
    assert_int_equal(json_array_size(left), 0);
    json_decref(left);
    aiinfra_memory_free(none);
  }
  aiinfra_memory_free(from);
  aiinfra_memory_free(to);
}

static void test_arguments(void **state)
{
  aiinfra_memory *memory = must_open("arguments");
  aiinfra_fact_opts opts = AIINFRA_FACT_OPTS_INIT;
  aiinfra_facts_opts list = AIINFRA_FACTS_OPTS_INIT;
  aiinfra_memory_opts names = AIINFRA_MEMORY_OPTS_INIT;
  aiinfra_memory *other;
  char *out;
  (void)state;
  opts.trust = 1.5f;
  assert_int_equal(aiinfra_memory_add_fact(memory, "x", &opts, &out, &err), AIINFRA_EINVAL);
  assert_null(out);
  opts.trust = NAN;
  assert_int_equal(aiinfra_memory_add_fact(memory, "x", &opts, NULL, &err), AIINFRA_EINVAL);
  opts.trust = 0;
  opts.valid_from_ms = 10;
  opts.valid_to_ms = 10;
  assert_int_equal(aiinfra_memory_add_fact(memory, "x", &opts, NULL, &err), AIINFRA_EINVAL);
  opts.valid_to_ms = 0;
  opts.metadata_json = "3";
  assert_int_equal(aiinfra_memory_add_fact(memory, "x", &opts, NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_memory_add_fact(memory, " ", NULL, NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_memory_revise(memory, 1, NULL, NULL, NULL, &err), AIINFRA_EINVAL);
  list.all = 2;
  assert_int_equal(aiinfra_memory_facts(memory, &list, &out, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_memory_import(memory, NULL, 1, NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_memory_import(memory, "x", (size_t)65 << 20, NULL, &err), AIINFRA_ELIMIT);
  names.user = "";
  assert_int_equal(aiinfra_memory_open(db, &names, &other, &err), AIINFRA_EINVAL);
  names.user = "ann";
  must(aiinfra_memory_open(db, &names, &other, &err));
  (void)add(other, "x", NULL, "new");
  aiinfra_memory_free(other);
  json_t *all = facts(memory, NULL);
  assert_int_equal(json_array_size(all), 0);
  json_decref(all);
  aiinfra_memory_free(memory);
}

/* Pages of a list join without a gap. */
static void test_pages(void **state)
{
  aiinfra_memory *memory = must_open("pages");
  aiinfra_facts_opts list = AIINFRA_FACTS_OPTS_INIT;
  size_t n = 0;
  (void)state;
  for (int i = 0; i < 25; i++) {
    char text[32];
    snprintf(text, sizeof text, "fact %d", i);
    (void)add(memory, text, NULL, "new");
  }
  list.limit = 10;
  for (int page = 0; page < 4; page++) {
    json_t *some = facts(memory, &list);
    assert_int_equal(json_array_size(some), page < 2 ? 10 : page == 2 ? 5 : 0);
    for (size_t i = 0; i < json_array_size(some); i++, n++) {
      char text[32];
      snprintf(text, sizeof text, "fact %zu", n);
      assert_string_equal(text_at(some, i, "text"), text);
      list.after_id = int_at(some, i, "id");
    }
    json_decref(some);
  }
  assert_int_equal(n, 25);
  aiinfra_memory_free(memory);
}

static int set_up(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, &err) || aiinfra_db_open(rt, test_db(":memory:"), NULL, &db, &err);
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
      cmocka_unit_test(test_ladder), cmocka_unit_test(test_two_times), cmocka_unit_test(test_future),
      cmocka_unit_test(test_scores), cmocka_unit_test(test_enough),    cmocka_unit_test(test_forgotten),
      cmocka_unit_test(test_moving), cmocka_unit_test(test_arguments), cmocka_unit_test(test_pages),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
