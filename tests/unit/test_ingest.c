/* test_ingest.c - documents that change, move, vanish or cannot be read: what is embedded again, and what is told. */
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
static aiinfra_db *db;
static aiinfra_memory *memory;
static const char *folder;

static void write_text(const char *name, const char *text)
{
  char path[512];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  assert_int_equal(test_write_file(path, text, strlen(text)), 0);
}

static const char *in_folder(const char *name)
{
  static char paths[4][512];
  static unsigned next;
  char *path = paths[next++ % 4];
  snprintf(path, 512, "%s/%s", folder, name);
  return path;
}

static json_t *ingest_as(const char *path, const aiinfra_ingest_opts *opts)
{
  char *text;
  if (aiinfra_memory_ingest_files(memory, &path, 1, opts, &text, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  json_t *report = json_loads(text, 0, NULL);
  assert_true(json_is_object(report));
  aiinfra_string_free(text);
  return report;
}

static json_int_t count(const json_t *report, const char *name)
{
  const json_t *value = json_object_get(report, name);
  if (!json_is_integer(value)) fail_msg("the report has no %s", name);
  return json_integer_value(value);
}

/* Checks counts of an ingestion: "kept 3 removed 1 ..."; what is not named must be 0, but for files and bytes. */
static void check(const char *path, const aiinfra_ingest_opts *opts, const char *wanted)
{
  static const char *const names[] = {"unchanged", "skipped", "passages", "kept",
                                      "removed",   "renamed", "gone",     "n_problems"};
  json_t *report = ingest_as(path, opts);
  for (size_t i = 0; i < AII_COUNT(names); i++) {
    const char *at = strstr(wanted, names[i]);
    long long want = at != NULL ? atoll(at + strlen(names[i])) : 0;
    if (count(report, names[i]) != want)
      fail_msg("%s is %lld, not %lld", names[i], (long long)count(report, names[i]), want);
  }
  json_decref(report);
}

static json_t *recall(const char *question)
{
  char *text;
  if (aiinfra_memory_recall(memory, question, NULL, &text, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  json_t *items = json_loads(text, 0, NULL);
  aiinfra_string_free(text);
  return items;
}

/* The first item that the question finds with this text in it, or NULL. */
static json_t *find(const char *question, const char *text)
{
  json_t *items = recall(question), *item, *found = NULL;
  size_t i;
  json_array_foreach(items, i, item)
  {
    if (found == NULL && strstr(json_string_value(json_object_get(item, "text")), text) != NULL)
      found = json_incref(item);
  }
  json_decref(items);
  return found;
}

static json_int_t id_of(const char *question, const char *text)
{
  json_t *item = find(question, text);
  json_int_t id = item != NULL ? json_integer_value(json_object_get(item, "id")) : 0;
  json_decref(item);
  return id;
}

static void test_only_changes_are_embedded(void **state)
{
  (void)state;
  write_text("a.md", "# One\n\nAlpha text.\n\n# Two\n\nBeta text.\n\n# Three\n\nGamma text.\n");
  check(folder, NULL, "passages 3");
  check(folder, NULL, "unchanged 1");
  json_int_t alpha = id_of("alpha text", "Alpha"), gamma = id_of("gamma text", "Gamma");
  assert_true(alpha > 0 && gamma > 0);
  write_text("a.md", "# One\n\nAlpha text.\n\n# Two\n\nBeta text is longer now.\n\n# Three\n\nGamma text.\n");
  check(folder, NULL, "passages 1 kept 2 removed 1");
  assert_int_equal(id_of("alpha text", "Alpha"), alpha);
  assert_int_equal(id_of("gamma text", "Gamma"), gamma);
  /* what stayed tells where it lies now */
  json_t *item = find("gamma text", "Gamma");
  size_t n, at = (size_t)json_integer_value(json_object_get(item, "first_byte"));
  char *file = test_read_file(in_folder("a.md"), &n);
  assert_true(at + 11 < n + 1 && memcmp(file + at, "Gamma text.", 11) == 0);
  free(file);
  json_decref(item);
  /* the same text below another heading is another passage; the same text twice is two */
  write_text("a.md", "# One\n\nAlpha text.\n\n# Other\n\nGamma text.\n\n# Again\n\nGamma text.\n");
  check(folder, NULL, "passages 2 kept 1 removed 2");
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
}

static void test_renamed_and_gone(void **state)
{
  (void)state;
  write_text("old-name.txt", "The kettle is in the kitchen.");
  write_text("other.txt", "The ladder is in the garage.");
  check(folder, NULL, "passages 2");
  json_int_t id = id_of("kettle", "kettle");
  assert_int_equal(rename(in_folder("old-name.txt"), in_folder("appliances.txt")), 0);
  check(folder, NULL, "unchanged 1 kept 1 renamed 1");
  assert_int_equal(id_of("kettle", "kettle"), id);
  json_t *item = find("appliances", "kettle"); /* found by its new name */
  assert_non_null(strstr(json_string_value(json_object_get(item, "source")), "appliances.txt"));
  json_decref(item);
  assert_int_equal(unlink(in_folder("other.txt")), 0);
  aiinfra_ingest_opts keep = AIINFRA_INGEST_OPTS_INIT;
  keep.keep_missing = 1;
  check(folder, &keep, "unchanged 1");
  assert_true(id_of("ladder", "ladder") > 0);
  check(folder, NULL, "unchanged 1 gone 1 removed 1");
  assert_true(id_of("ladder", "ladder") == 0);
  /* a file that was named itself, too; what was never there is an error still */
  assert_int_equal(unlink(in_folder("appliances.txt")), 0);
  check(in_folder("appliances.txt"), NULL, "gone 1 removed 1");
  const char *path = in_folder("appliances.txt");
  assert_int_equal(aiinfra_memory_ingest_files(memory, &path, 1, NULL, NULL, &err), AIINFRA_ENOENT);
  assert_non_null(strstr(err.message, "appliances.txt"));
}

static void test_other_folders_stay(void **state)
{
  (void)state;
  mkdir(in_folder("sub"), 0700);
  mkdir(in_folder("sub2"), 0700);
  write_text("sub/a.txt", "Alpha text.");
  write_text("sub2/b.txt", "Beta text.");
  check(folder, NULL, "passages 2");
  assert_int_equal(unlink(in_folder("sub2/b.txt")), 0);
  check(in_folder("sub"), NULL, "unchanged 1");
  assert_true(id_of("beta", "Beta") > 0);
  check(folder, NULL, "unchanged 1 gone 1 removed 1");
}

static void test_problems_stop_nothing(void **state)
{
  (void)state;
  write_text("a.txt", "Alpha text.");
  assert_int_equal(test_write_file(in_folder("b.png"), "\x89PNG\0", 5), 0);
  write_text("c.txt", "Gamma text.");
  assert_int_equal(symlink("/proc/self/mem", in_folder("d.txt")), 0); /* is there, but cannot be read */
  json_t *report = ingest_as(folder, NULL), *problems = json_object_get(report, "problems");
  assert_int_equal(count(report, "files"), 2);
  assert_int_equal(count(report, "n_problems"), 2);
  assert_int_equal(json_array_size(problems), 2);
  json_t *png = json_array_get(problems, 0), *mem = json_array_get(problems, 1);
  const char *path = json_string_value(json_object_get(png, "path"));
  if (strstr(path, "b.png") == NULL) { /* the order is that of the names that readers know */
    json_t *swap = png;
    png = mem;
    mem = swap;
  }
  assert_non_null(strstr(json_string_value(json_object_get(png, "path")), "b.png"));
  assert_non_null(strstr(json_string_value(json_object_get(png, "why")), "PNG image"));
  assert_non_null(strstr(json_string_value(json_object_get(mem, "path")), "mem"));
  json_decref(report);
  assert_true(id_of("gamma", "Gamma") > 0);
  /* a file that turns into something else keeps what it had */
  assert_int_equal(test_write_file(in_folder("a.txt"), "\0\0", 2), 0);
  check(folder, NULL, "unchanged 1 skipped 3 n_problems 3");
  assert_true(id_of("alpha", "Alpha") > 0);
}

static void test_options(void **state)
{
  static const struct {
    int32_t chunking, unit;
    uint32_t size, overlap;
    const char *why;
  } bad[] = {{3, 0, 0, 0, "chunking"},
             {0, 3, 0, 0, "unit"},
             {0, 0, 15, 0, "size"},
             {0, 2, 65537, 0, "size"},
             {0, 0, 100, 51, "overlap"}};
  aiinfra_ingest_opts opts = AIINFRA_INGEST_OPTS_INIT;
  char *text = (char *)&opts;
  const char *path = folder;
  (void)state;
  for (size_t i = 0; i < AII_COUNT(bad); i++) {
    opts.chunking = bad[i].chunking;
    opts.unit = bad[i].unit;
    opts.size = bad[i].size;
    opts.overlap = bad[i].overlap;
    assert_int_equal(aiinfra_memory_ingest_files(memory, &path, 1, &opts, &text, &err), AIINFRA_EINVAL);
    assert_non_null(strstr(err.message, bad[i].why));
    assert_null(text);
  }
  write_text("a.txt", "one two three four five six seven eight nine");
  opts = (aiinfra_ingest_opts)AIINFRA_INGEST_OPTS_INIT;
  opts.chunking = AIINFRA_CHUNK_TOKENS;
  opts.unit = AIINFRA_UNIT_WORDS;
  opts.size = 4;
  check(folder, &opts, "passages 3");
  check(folder, &opts, "unchanged 1");
  opts.overlap = 2; /* another way to cut is another document */
  check(folder, &opts, "passages 2 kept 2 removed 1");
}

/* Sizes in a model's own tokens. */
static void test_tokens_of_a_model(void **state)
{
  aiinfra_model_opts vocabulary = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_ingest_opts opts = AIINFRA_INGEST_OPTS_INIT;
  aiinfra_model *model;
  size_t i;
  (void)state;
  vocabulary.vocab_only = 1;
  if (aiinfra_model_open(rt, test_path("examples/nano/nano.gguf"), &vocabulary, &model, &err) != AIINFRA_OK)
    fail_msg("%s", err.message);
  char *text = test_read_file(test_path("tests/data/docs/overview.md"), NULL);
  write_text("a.md", text);
  free(text);
  opts.model = model;
  opts.size = 40;
  json_decref(ingest_as(folder, &opts));
  json_t *items = recall("lantern"), *item;
  assert_true(json_array_size(items) > 2);
  json_array_foreach(items, i, item)
  {
    const char *s = json_string_value(json_object_get(item, "text"));
    size_t n;
    assert_int_equal(aiinfra_model_tokenize(model, s, strlen(s), 0, NULL, 0, &n, NULL), AIINFRA_ENOSPC);
    assert_true(n > 0 && n <= 40);
  }
  json_decref(items);
  aiinfra_model_free(model);
}

/* Passages of every format say where they lie. */
static void test_formats(void **state)
{
  static const char html[] = "<h1>House</h1><p>The caf&eacute; key is <b>under</b> the mat.</p>";
  (void)state;
  write_text("a.html", html);
  write_text("b.csv", "Tool,Place\nhammer,shed\nsaw,cellar\n");
  write_text("c.json", "[{\"tool\": \"drill\", \"at\": {\"place\": \"attic\"}}]");
  json_decref(ingest_as(folder, NULL));
  json_t *item = find("Where is the key?", "under");
  assert_string_equal(json_string_value(json_object_get(item, "text")), "The caf\xC3\xA9 key is under the mat.");
  assert_string_equal(json_string_value(json_object_get(json_object_get(item, "metadata"), "headings")), "House");
  size_t at = (size_t)json_integer_value(json_object_get(item, "first_byte"));
  size_t n = (size_t)json_integer_value(json_object_get(item, "n_bytes"));
  assert_int_equal(n, strlen("The caf&eacute; key is <b>under</b> the mat."));
  assert_memory_equal(html + at, "The caf&eacute; key is <b>under</b> the mat.", n);
  json_decref(item);
  item = find("Where is the hammer?", "Tool: hammer; Place: shed");
  assert_non_null(item);
  json_decref(item);
  item = find("drill", "at.place: attic");
  assert_non_null(item);
  json_decref(item);
}

static int set_up(void **state)
{
  static int n;
  static char name[64];
  (void)state;
  snprintf(name, sizeof name, "docs%d", n++);
  folder = strdup(test_tmp(name));
  if (mkdir(folder, 0700) != 0 || aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK) return -1;
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
  free((char *)(uintptr_t)folder);
  return leaked;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(test_only_changes_are_embedded),
      TEST(test_renamed_and_gone),
      TEST(test_other_folders_stay),
      TEST(test_problems_stop_nothing),
      TEST(test_options),
      TEST(test_tokens_of_a_model),
      TEST(test_formats),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
