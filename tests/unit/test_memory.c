/* test_memory.c - memory: scopes are walls, texts meet by meaning of words, recall finds the right passage. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/json/json.h"
#include "src/memory/memory.h"
#include "support/support.h"

static aiinfra_runtime *rt;
static aiinfra_error err;

static aiinfra_db *must_open_db(const char *path)
{
  aiinfra_db *db;
  if (aiinfra_db_open(rt, path, NULL, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return db;
}

static aiinfra_memory *must_open(aiinfra_db *db, const char *scope)
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

static double similarity(const char *a, const char *b)
{
  float x[AII_EMBED_DIMS], y[AII_EMBED_DIMS];
  double dot = 0, length = 0;
  aii_embed(a, strlen(a), x);
  aii_embed(b, strlen(b), y);
  for (size_t i = 0; i < AII_EMBED_DIMS; i++) {
    dot += (double)x[i] * (double)y[i];
    length += (double)x[i] * (double)x[i];
  }
  assert_true(fabs(length - 1) < 1e-5);
  return dot;
}

static void test_embedding(void **state)
{
  (void)state;
  assert_true(similarity("My cat is called Miso.", "my CAT is called miso") > 0.999);
  assert_true(similarity("What is my cat called?", "My cat is called Miso.") > 0.5);
  assert_true(similarity("What is my cat called?", "What is the default port of the server?") < 0.2);
  assert_true(similarity("running the servers", "run a server") > 0.7); /* inflected words meet */
  assert_true(similarity("configuration", "configurations of") > 0.7);
  assert_true(similarity("recieve", "receive") > similarity("recieve", "deceive"));
  assert_true(similarity("\xC3\x84pfel essen", "\xC3\xA4pfel ESSEN") > 0.999);
  assert_true(similarity("?!", "?!") > 0.999);
  /* stored vectors are compared with later ones: these bytes are a promise */
  float v[AII_EMBED_DIMS];
  aii_embed("The cat sat on the mat.", 23, v);
  assert_true(aii_hash64(v, sizeof v, 0) == 0xa861894c9662d09cu);
}

static void test_normalise(void **state)
{
  aii_mem mem;
  aii_buf out;
  (void)state;
  aii_mem_init(&mem, NULL, 0);
  aii_buf_init(&out, &mem, 0);
  static const char text[] = "  My\tCAT \n\xC2\xA0 is  \xC3\x84lter ";
  aii_normalise(text, sizeof text - 1, &out);
  assert_string_equal(aii_buf_cstr(&out), "my cat is \xC3\xA4lter");
  aii_buf_free(&out);
}

/* Each question, and a piece of the passage that answers it: it must come first, or among the first three. */
static const struct {
  const char *question, *answer;
  size_t within;
} QUESTIONS[] = {
    {"What is the default port of the server?", "listens on port 7420", 1},
    {"What is the maximum size of a single event?", "at most 1 MiB", 3},
    {"How many days are old segments kept?", "after seven days", 1},
    {"How do I make a backup?", "lantern backup DEST", 1},
    {"Which licence does Lantern have?", "Apache License 2.0", 1},
    {"How do I revoke a token?", "token revoke", 1},
    {"What can a new token do by default?", "may only subscribe", 1},
    {"How do I add a follower?", "--follow", 1},
    {"Does it run on Windows?", "use WSL", 1},
    {"Where are the metrics?", "/metrics", 1},
    {"Are events delivered in order?", "in the order in which they were written", 1},
    {"How do I report a vulnerability?", "security@lantern.example", 1},
    {"What happens when the leader is lost?", "lantern promote", 1},
    {"Which Python version is needed?", "Python 3.9", 1},
    {"When are idle connections closed?", "90 seconds", 1},
    {"Can I lose data when the power fails?", "one second of events", 1},
    {"In which order should I upgrade?", "followers first", 3},
    {"How long are old events kept?", "after seven days", 3},
};

static size_t place_of(json_t *items, const char *answer)
{
  for (size_t i = 0; i < json_array_size(items); i++) {
    const char *text = json_string_value(json_object_get(json_array_get(items, i), "text"));
    if (strstr(text, answer) != NULL) return i + 1;
  }
  return SIZE_MAX;
}

static void test_questions(void **state)
{
  aiinfra_db *db = must_open_db(":memory:");
  aiinfra_memory *memory = must_open(db, NULL);
  const char *path = test_path("tests/data/docs");
  size_t first = 0;
  (void)state;
  if (aiinfra_memory_ingest(memory, &path, 1, NULL, NULL, NULL, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  for (size_t i = 0; i < AII_COUNT(QUESTIONS); i++) {
    json_t *items = must_recall(memory, QUESTIONS[i].question, NULL);
    size_t place = place_of(items, QUESTIONS[i].answer);
    if (place > QUESTIONS[i].within) fail_msg("'%s' is answered at place %zu", QUESTIONS[i].question, place);
    first += place == 1;
    json_decref(items);
  }
  printf("%zu of %zu questions answered by the first passage\n", first, AII_COUNT(QUESTIONS));
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
}

/* A passage is the very bytes of its file, and says below which headings it lies. */
static void test_passages_are_bytes(void **state)
{
  aiinfra_db *db = must_open_db(":memory:");
  aiinfra_memory *memory = must_open(db, NULL);
  const char *path = test_path("tests/data/docs/guide/server.md");
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  (void)state;
  assert_int_equal(aiinfra_memory_ingest(memory, &path, 1, NULL, NULL, NULL, &err), AIINFRA_OK);
  char *file = test_read_file(path, NULL);
  opts.k = 100;
  json_t *items = must_recall(memory, "port", &opts);
  assert_true(json_array_size(items) >= 5);
  for (size_t i = 0; i < json_array_size(items); i++) {
    json_t *item = json_array_get(items, i);
    const char *text = json_string_value(json_object_get(item, "text"));
    size_t at = (size_t)json_integer_value(json_object_get(item, "first_byte"));
    size_t n = (size_t)json_integer_value(json_object_get(item, "n_bytes"));
    assert_int_equal(strlen(text), n);
    assert_memory_equal(text, file + at, n);
    assert_int_not_equal(text[0], '#');
    assert_non_null(strstr(json_string_value(json_object_get(item, "source")), "guide/server.md"));
    const char *headings = json_string_value(json_object_get(json_object_get(item, "metadata"), "headings"));
    assert_int_equal(strncmp(headings, "Running the server > ", 21), 0);
  }
  json_decref(items);
  free(file);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
}

/* Random work in several scopes of one file: each answers exactly as if it had the file for itself, to the byte. */
static void test_scopes_are_walls(void **state)
{
  enum { SCOPES = 3, STEPS = 250 };
  static const char *const names[SCOPES] = {"user:ann", "user:bob", "user:an"};
  static const char *const words[] = {"cat", "dog", "port", "server", "likes", "music", "green", "secret"};
  unsigned long long seed = test_seed();
  aiinfra_db *shared = must_open_db(":memory:"), *own_db[SCOPES];
  aiinfra_memory *in_shared[SCOPES], *own[SCOPES];
  int64_t ids[SCOPES][STEPS][2];
  size_t n_ids[SCOPES] = {0};
  (void)state;
  for (int s = 0; s < SCOPES; s++) {
    own_db[s] = must_open_db(":memory:");
    in_shared[s] = must_open(shared, names[s]);
    own[s] = must_open(own_db[s], names[s]);
  }
  for (int step = 0; step < STEPS; step++) {
    int s = (int)(test_random(&seed) % SCOPES);
    char text[128] = "";
    for (size_t i = 0, n = 1 + test_random(&seed) % 5; i < n; i++) {
      strncat(text, words[test_random(&seed) % AII_COUNT(words)], 20);
      strncat(text, " ", 2);
    }
    unsigned long long dice = test_random(&seed) % 10;
    if (dice < 5) {
      int64_t *id = ids[s][n_ids[s]++];
      assert_int_equal(aiinfra_memory_remember(in_shared[s], text, NULL, &id[0], &err), AIINFRA_OK);
      assert_int_equal(aiinfra_memory_remember(own[s], text, NULL, &id[1], &err), AIINFRA_OK);
    } else if (dice < 6 && n_ids[s] > 0) {
      int64_t *id = ids[s][test_random(&seed) % n_ids[s]];
      aiinfra_status rc = aiinfra_memory_forget(own[s], id[1], &err);
      for (int other = 0; other < SCOPES; other++) { /* nobody else can, even with the right id */
        if (other != s) assert_int_equal(aiinfra_memory_forget(in_shared[other], id[0], &err), AIINFRA_ENOENT);
      }
      assert_int_equal(aiinfra_memory_forget(in_shared[s], id[0], &err), rc);
    } else {
      json_t *a = must_recall(in_shared[s], text, NULL), *b = must_recall(own[s], text, NULL);
      assert_int_equal(json_array_size(a), json_array_size(b));
      for (size_t i = 0; i < json_array_size(a); i++) {
        static const char *const same[] = {"text", "score", "vector_score", "text_score", "kind"};
        for (size_t f = 0; f < AII_COUNT(same); f++) {
          assert_true(json_equal(json_object_get(json_array_get(a, i), same[f]),
                                 json_object_get(json_array_get(b, i), same[f])));
        }
      }
      json_decref(a);
      json_decref(b);
    }
  }
  for (int s = 0; s < SCOPES; s++) {
    aiinfra_memory_free(in_shared[s]);
    aiinfra_memory_free(own[s]);
    aiinfra_db_free(own_db[s]);
  }
  aiinfra_db_free(shared);
}

static bool file_holds(const char *path, const char *word)
{
  size_t n;
  char *bytes = test_read_file(path, &n);
  bool found = bytes != NULL && memmem(bytes, n, word, strlen(word)) != NULL;
  free(bytes);
  return found;
}

/* What was forgotten is in no byte of the file. */
static void test_forgotten_for_good(void **state)
{
  const char *path = test_tmp("forget.db");
  aiinfra_db *db = must_open_db(path);
  aiinfra_memory *memory = must_open(db, NULL);
  int64_t id;
  (void)state;
  for (int i = 0; i < 50; i++) {
    char text[64];
    snprintf(text, sizeof text, "fact number %d stays", i);
    assert_int_equal(aiinfra_memory_remember(memory, text, NULL, NULL, &err), AIINFRA_OK);
  }
  assert_int_equal(aiinfra_memory_remember(memory, "The code is zanzibarxyz.", "{\"m\":\"quetzalxyz\"}", &id, &err), 0);
  assert_true(file_holds(path, "zanzibarxyz") || file_holds(test_tmp("forget.db-wal"), "zanzibarxyz"));
  assert_int_equal(aiinfra_memory_forget(memory, id, &err), AIINFRA_OK);
  assert_false(file_holds(path, "zanzibarxyz") || file_holds(test_tmp("forget.db-wal"), "zanzibarxyz"));
  assert_false(file_holds(path, "quetzalxyz") || file_holds(test_tmp("forget.db-wal"), "quetzalxyz"));
  assert_false(file_holds(path, "anzibarxyz")); /* words share beginnings in the full-text table */
  assert_int_equal(aiinfra_memory_forget(memory, id, &err), AIINFRA_ENOENT);
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
}

/* ---- files ----------------------------------------------------------------------------------------------------- */

static int cancel_at_third(void *user, double fraction)
{
  int *calls = user;
  assert_true(fraction >= 0 && fraction <= 1);
  return ++*calls == 3;
}

static void write_text(const char *name, const char *text)
{
  assert_int_equal(test_write_file(test_tmp(name), text, strlen(text)), 0);
}

static aiinfra_ingest_stats ingest(aiinfra_memory *memory, const char *path)
{
  aiinfra_ingest_stats stats;
  memset(&stats, 0, sizeof stats);
  stats.struct_size = sizeof stats;
  if (aiinfra_memory_ingest(memory, &path, 1, NULL, NULL, &stats, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return stats;
}

static void test_ingestion(void **state)
{
  aiinfra_db *db = must_open_db(":memory:");
  aiinfra_memory *memory = must_open(db, NULL);
  const char *folder = test_tmp("docs");
  (void)state;
  mkdir(folder, 0700);
  mkdir(test_tmp("docs/sub"), 0700);
  mkdir(test_tmp("docs/.git"), 0700);
  write_text("docs/a.md", "# A\n\nAlpha text.\n\n## B\n\nBeta text.");
  write_text("docs/sub/b.txt", "Gamma text.");
  write_text("docs/.hidden.md", "Hidden text.");
  write_text("docs/.git/c.md", "Hidden too.");
  assert_int_equal(test_write_file(test_tmp("docs/d.bin"), "a\0b", 3), 0);
  assert_int_equal(test_write_file(test_tmp("docs/e.txt"), "\xFF\xFC\x81", 3), 0);
  write_text("docs/empty.md", "");
  assert_int_equal(symlink(folder, test_tmp("docs/sub/loop")), 0);
  write_text("docs/big.txt", "x");
  assert_int_equal(truncate(test_tmp("docs/big.txt"), (off_t)AII_FILE_MAX_BYTES + 1), 0);

  aiinfra_ingest_stats stats = ingest(memory, folder);
  assert_int_equal(stats.files, 3);
  assert_int_equal(stats.skipped, 3);
  assert_int_equal(stats.passages, 3);
  stats = ingest(memory, folder);
  assert_int_equal(stats.unchanged, 3);
  assert_int_equal(stats.passages, 0);
  write_text("docs/a.md", "# A\n\nAlpha changed.");
  stats = ingest(memory, folder);
  assert_int_equal(stats.unchanged, 2);
  assert_int_equal(stats.passages, 1);
  assert_int_equal(stats.removed, 2);
  json_t *items = must_recall(memory, "Beta text", NULL);
  assert_int_equal(json_array_size(items), 2);
  assert_true(place_of(items, "Beta") == SIZE_MAX);
  json_decref(items);

  const char *paths[] = {folder, test_tmp("nowhere")};
  aiinfra_memory *second = must_open(db, "second");
  assert_int_equal(aiinfra_memory_ingest(second, paths, 2, NULL, NULL, NULL, &err), AIINFRA_ENOENT);
  assert_non_null(strstr(err.message, "nowhere"));
  items = must_recall(second, "text", NULL);
  assert_int_equal(json_array_size(items), 0);
  json_decref(items);
  int calls = 0;
  assert_int_equal(aiinfra_memory_ingest(second, paths, 1, cancel_at_third, &calls, NULL, &err), AIINFRA_ECANCELED);
  items = must_recall(second, "alpha text", NULL);
  assert_int_equal(json_array_size(items), 1); /* what was done stays */
  json_decref(items);
  aiinfra_memory_free(second);
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
      cmocka_unit_test(test_embedding),        cmocka_unit_test(test_normalise),
      cmocka_unit_test(test_questions),        cmocka_unit_test(test_passages_are_bytes),
      cmocka_unit_test(test_scopes_are_walls), cmocka_unit_test(test_forgotten_for_good),
      cmocka_unit_test(test_ingestion),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
