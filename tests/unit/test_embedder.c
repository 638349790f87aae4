/* test_embedder.c - a memory moves to another way to embed: beside the old one, in steps, and nothing is lost. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/json/json.h"
#include "src/memory/memory.h"
#include "support/support.h"

enum { DIMS = 8, MANY = 100 };

static aiinfra_runtime *rt;
static aiinfra_error err;

/* Knows what no words tell: things you cook with are near each other. Counts what it is asked. */
typedef struct oracle {
  size_t texts, questions, fails_after;
} oracle;

static int embed(void *user, const char *const *texts, size_t n, int question, float *vectors)
{
  static const char *const topics[DIMS][3] = {{"kettle", "stove", "cook"},   {"hammer", "saw", "repair"},
                                              {"piano", "violin", "music"},  {"ferry", "train", "travel"},
                                              {"oak", "birch", "tree"},      {"rain", "snow", "weather"},
                                              {"novel", "poem", "literary"}, {"fox", "wolf", "animal"}};
  oracle *o = user;
  if (o->fails_after != 0 && o->texts >= o->fails_after) return 1;
  assert_true(n > 0 && n <= 32);
  for (size_t i = 0; i < n; i++) {
    for (size_t d = 0; d < DIMS; d++) {
      vectors[i * DIMS + d] = 0.01f;
      for (size_t w = 0; w < 3; w++) vectors[i * DIMS + d] += strstr(texts[i], topics[d][w]) != NULL ? 1.0f : 0.0f;
    }
  }
  *(question ? &o->questions : &o->texts) += n;
  return 0;
}

static aiinfra_embedder embedder(const char *name, oracle *o)
{
  aiinfra_embedder e = AIINFRA_EMBEDDER_INIT;
  e.name = name;
  e.embed = embed;
  e.user = o;
  e.dims = DIMS;
  return e;
}

static aiinfra_memory *must_open(aiinfra_db *db)
{
  aiinfra_memory *memory;
  if (aiinfra_memory_open(db, NULL, &memory, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return memory;
}

static int64_t remember(aiinfra_memory *memory, const char *text)
{
  int64_t id;
  if (aiinfra_memory_remember(memory, text, NULL, &id, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return id;
}

/* The text of the first item that a question finds, to be freed; *by is the embedder that was used. */
static json_t *first(aiinfra_memory *memory, const char *question, int32_t mode, const char *by)
{
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  char *text, *story;
  opts.mode = mode;
  opts.explain = &story;
  if (aiinfra_memory_recall(memory, question, &opts, &text, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  json_t *items = json_loads(text, 0, NULL), *told = json_loads(story, 0, NULL);
  const char *name = json_string_value(json_object_get(told, "embedder"));
  if (by == NULL) assert_null(name);
  else assert_string_equal(name, by);
  json_t *item = json_incref(json_array_get(items, 0));
  json_decref(items);
  json_decref(told);
  aiinfra_string_free(text);
  aiinfra_string_free(story);
  return item;
}

static void check_first(aiinfra_memory *memory, const char *question, const char *want, const char *by)
{
  json_t *item = first(memory, question, AIINFRA_RECALL_VECTOR, by);
  const char *text = json_string_value(json_object_get(item, "text"));
  if (text == NULL || strstr(text, want) == NULL) fail_msg("'%s' finds '%s', not '%s'", question, text, want);
  json_decref(item);
}

static void migrate(aiinfra_memory *memory, const aiinfra_embedder *e, int items, int embedded)
{
  char *text;
  if (aiinfra_memory_migrate(memory, e, NULL, NULL, &text, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  json_t *report = json_loads(text, 0, NULL);
  aiinfra_string_free(text);
  assert_int_equal(json_integer_value(json_object_get(report, "items")), items);
  assert_int_equal(json_integer_value(json_object_get(report, "embedded")), embedded);
  json_decref(report);
}

static int64_t count_rows(aiinfra_db *db, const char *sql)
{
  aii_stmt *stmt;
  bool row;
  aii_sql_lock(db->sql);
  assert_int_equal(aii_sql_prepare_once(db->sql, sql, &stmt, &err), AIINFRA_OK);
  assert_int_equal(aii_stmt_step(stmt, &row, &err), AIINFRA_OK);
  int64_t n = aii_stmt_get_int(stmt, 0);
  aii_stmt_free(stmt);
  aii_sql_unlock(db->sql);
  return n;
}
#define VECTORS_OF(name) \
  "SELECT count(*) FROM rows r JOIN collections c ON c.id = r.collection WHERE c.name = '@memory/by/" name "/default'"

static void fill(aiinfra_memory *memory)
{
  char text[64];
  for (int i = 0; i < MANY; i++) {
    snprintf(text, sizeof text, "item number %d is on shelf %d", i, i * 7);
    remember(memory, text);
  }
  remember(memory, "The kettle is in the attic.");
  remember(memory, "The hammer lies below the bench.");
  remember(memory, "The violin was sold.");
}

static void test_move(void **state)
{
  const char *path = test_tmp("move.db"), *document = test_tmp("trees.txt");
  oracle o = {0};
  aiinfra_embedder e = embedder("oracle-1", &o);
  aiinfra_db *db;
  (void)state;
  assert_int_equal(aiinfra_db_open(rt, path, NULL, &db, &err), AIINFRA_OK);
  aiinfra_memory *memory = must_open(db);
  fill(memory);
  assert_int_equal(aiinfra_memory_use_embedder(memory, &e, &err), AIINFRA_ENOENT);
  assert_non_null(strstr(err.message, "migrate first"));
  migrate(memory, &e, MANY + 3, MANY + 3);
  assert_int_equal(o.texts, MANY + 3);
  check_first(memory, "What can I cook with?", "kettle", "oracle-1");
  check_first(memory, "What do I repair it with?", "hammer", "oracle-1");
  /* words still count: what only they find is found */
  char *text;
  assert_int_equal(aiinfra_memory_recall(memory, "sold", NULL, &text, &err), AIINFRA_OK);
  const char *violin = strstr(text, "The violin was sold.");
  assert_non_null(violin);
  assert_non_null(strstr(violin, "\"vector_score\":null,\"text_score\":"));
  aiinfra_string_free(text);
  /* what is written later is embedded by the next search, once */
  assert_int_equal(test_write_file(document, "A birch stands here.", 20), 0);
  assert_int_equal(aiinfra_memory_ingest(memory, &document, 1, NULL, NULL, NULL, &err), AIINFRA_OK);
  remember(memory, "The train leaves at nine.");
  check_first(memory, "Which tree is it?", "birch", "oracle-1");
  check_first(memory, "When do I travel?", "train", "oracle-1");
  assert_int_equal(o.texts, MANY + 5);
  migrate(memory, &e, MANY + 5, 0);
  aiinfra_memory_free(memory);
  /* another handle: without the embedder by the vectors that it can make itself */
  memory = must_open(db);
  check_first(memory, "The kettle in the attic", "kettle", NULL);
  assert_int_equal(aiinfra_memory_use_embedder(memory, &e, &err), AIINFRA_OK);
  check_first(memory, "What can I cook with?", "kettle", "oracle-1");
  /* back */
  migrate(memory, NULL, MANY + 5, 0);
  check_first(memory, "The kettle in the attic", "kettle", NULL);
  assert_int_equal(count_rows(db, VECTORS_OF("oracle-1")), 0);
  assert_int_equal(aiinfra_memory_use_embedder(memory, &e, &err), AIINFRA_ENOENT);
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
}

static int cancel_at(void *user, double fraction)
{
  int *left = user;
  assert_true(fraction >= 0 && fraction <= 1);
  return --*left < 0;
}

/* A move that ends early serves the old vectors, and goes on where it was. */
static void test_resume(void **state)
{
  aiinfra_db *db;
  oracle o = {0}, second = {0};
  aiinfra_embedder e = embedder("oracle-1", &o), other = embedder("oracle-2", &second);
  char *report = (char *)&o;
  int left = 2;
  (void)state;
  assert_int_equal(aiinfra_db_open(rt, test_db(":memory:"), NULL, &db, &err), AIINFRA_OK);
  aiinfra_memory *memory = must_open(db);
  fill(memory);
  assert_int_equal(aiinfra_memory_migrate(memory, &e, cancel_at, &left, &report, &err), AIINFRA_ECANCELED);
  assert_null(report);
  assert_int_equal(o.texts, 64);
  check_first(memory, "The kettle in the attic", "kettle", NULL);
  assert_int_equal(aiinfra_memory_use_embedder(memory, &e, &err), AIINFRA_ENOENT);
  o.fails_after = 96;
  assert_int_equal(aiinfra_memory_migrate(memory, &e, NULL, NULL, NULL, &err), AIINFRA_ECANCELED);
  assert_non_null(strstr(err.message, "oracle-1"));
  assert_int_equal(o.texts, 96);
  o.fails_after = 0;
  migrate(memory, &e, MANY + 3, MANY + 3 - 96);
  check_first(memory, "What can I cook with?", "kettle", "oracle-1");
  /* to a third one: the second serves until it is there, then it is gone */
  left = 1;
  assert_int_equal(aiinfra_memory_migrate(memory, &other, cancel_at, &left, NULL, &err), AIINFRA_ECANCELED);
  check_first(memory, "What can I cook with?", "kettle", "oracle-1");
  migrate(memory, &other, MANY + 3, MANY + 3 - 32);
  check_first(memory, "What can I cook with?", "kettle", "oracle-2");
  assert_int_equal(count_rows(db, VECTORS_OF("oracle-1")), 0);
  assert_int_equal(count_rows(db, VECTORS_OF("oracle-2")), MANY + 3);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
}

/* Vectors of what is forgotten go with it, also where nobody has the embedder. */
static void test_forgetting(void **state)
{
  aiinfra_db *db;
  oracle o = {0};
  aiinfra_embedder e = embedder("oracle-1", &o);
  (void)state;
  assert_int_equal(aiinfra_db_open(rt, test_db(":memory:"), NULL, &db, &err), AIINFRA_OK);
  aiinfra_memory *memory = must_open(db), *early = must_open(db);
  int64_t kettle = remember(memory, "The kettle is in the attic."), fox = remember(memory, "A fox was here.");
  int64_t oak = remember(memory, "The oak is old.");
  migrate(memory, &e, 3, 3);
  aiinfra_memory *late = must_open(db);
  assert_int_equal(aiinfra_memory_forget(late, kettle, &err), AIINFRA_OK);
  assert_int_equal(count_rows(db, VECTORS_OF("oracle-1")), 2);
  assert_int_equal(aiinfra_memory_forget(early, fox, &err), AIINFRA_OK); /* was opened before there was one */
  assert_int_equal(count_rows(db, VECTORS_OF("oracle-1")), 1);
  assert_int_equal(aiinfra_memory_revise(late, oak, "The birch is old.", NULL, NULL, &err), AIINFRA_OK);
  check_first(memory, "Which tree is it?", "birch", "oracle-1");
  assert_int_equal(count_rows(db, VECTORS_OF("oracle-1")), 1);
  assert_int_equal(aiinfra_memory_forget_all(memory, &err), AIINFRA_OK);
  assert_int_equal(count_rows(db, VECTORS_OF("oracle-1")), 0);
  aiinfra_memory_free(early);
  aiinfra_memory_free(late);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
}

/* A passage that stays, and a file that is renamed, are not embedded again. */
static void test_changes_of_documents(void **state)
{
  static const char before[] = "# A\n\nThe oak.\n\n# B\n\nThe fox.\n\n# C\n\nThe rain.\n";
  static const char after[] = "# A\n\nThe oak.\n\n# B\n\nThe wolf.\n\n# C\n\nThe rain.\n";
  aiinfra_db *db;
  oracle o = {0};
  aiinfra_embedder e = embedder("oracle-1", &o);
  const char *path = test_tmp("one.md"), *renamed = test_tmp("two.md");
  (void)state;
  assert_int_equal(aiinfra_db_open(rt, test_db(":memory:"), NULL, &db, &err), AIINFRA_OK);
  aiinfra_memory *memory = must_open(db);
  assert_int_equal(test_write_file(path, before, sizeof before - 1), 0);
  assert_int_equal(aiinfra_memory_ingest(memory, &path, 1, NULL, NULL, NULL, &err), AIINFRA_OK);
  migrate(memory, &e, 3, 3);
  assert_int_equal(test_write_file(path, after, sizeof after - 1), 0);
  assert_int_equal(aiinfra_memory_ingest(memory, &path, 1, NULL, NULL, NULL, &err), AIINFRA_OK);
  check_first(memory, "Which animal?", "wolf", "oracle-1");
  assert_int_equal(o.texts, 4);
  assert_int_equal(rename(path, renamed), 0);
  const char *paths[] = {path, renamed};
  assert_int_equal(aiinfra_memory_ingest(memory, paths, 2, NULL, NULL, NULL, &err), AIINFRA_OK);
  check_first(memory, "Which animal?", "wolf", "oracle-1");
  assert_int_equal(o.texts, 4);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
}

static int not_a_number(void *user, const char *const *texts, size_t n, int question, float *vectors)
{
  (void)user, (void)texts, (void)question;
  for (size_t i = 0; i < n * DIMS; i++) vectors[i] = NAN;
  return 0;
}

static void test_bad_embedders(void **state)
{
  aiinfra_db *db;
  oracle o = {0};
  aiinfra_embedder good = embedder("oracle-1", &o), e;
  (void)state;
  assert_int_equal(aiinfra_db_open(rt, test_db(":memory:"), NULL, &db, &err), AIINFRA_OK);
  aiinfra_memory *memory = must_open(db);
  remember(memory, "The kettle.");
#define BAD(member, value, why)                                                                   \
  do {                                                                                            \
    e = good;                                                                                     \
    e.member = value;                                                                             \
    assert_int_equal(aiinfra_memory_migrate(memory, &e, NULL, NULL, NULL, &err), AIINFRA_EINVAL); \
    if (strstr(err.message, why) == NULL) fail_msg("'%s' does not say '%s'", err.message, why);   \
  } while (0)
  BAD(name, NULL, "name");
  BAD(name, "", "name");
  BAD(name, "a/b", "'/'");
  BAD(embed, NULL, "embed");
  BAD(dims, 0, "dims");
  BAD(dims, 16385, "dims");
  BAD(reserved, 1, "reserved");
  BAD(struct_size, 8, "size");
  BAD(embed, not_a_number, "finite");
  migrate(memory, &good, 1, 1);
  BAD(dims, 9, "dimensions");
  check_first(memory, "What can I cook with?", "kettle", "oracle-1");
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
}

static int set_up(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, &err);
}

static int tear_down(void **state)
{
  (void)state;
  bool leaked = rt->refs != 1;
  aiinfra_runtime_free(rt);
  return leaked;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_move),          cmocka_unit_test(test_resume),
      cmocka_unit_test(test_forgetting),    cmocka_unit_test(test_changes_of_documents),
      cmocka_unit_test(test_bad_embedders),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
