/* test_retrieve.c - memory fails while documents are loaded and cut, packed, and embedded anew. */
#include "tests/torture/scene.h"

#include <sys/stat.h>
#include <unistd.h>

#include "src/retrieve/retrieve.h"

/* ---- loading and cutting ------------------------------------------------------------------------------------------- */

static const struct {
  const char *name, *bytes;
  size_t n;
} documents[] = {
#define DOCUMENT(name, bytes)     \
  {                               \
    name, bytes, sizeof bytes - 1 \
  }
    DOCUMENT("a.html", "\xEF\xBB\xBF<h1>A</h1><p>b &amp; c<br>d<pre>x\n y</pre><table><tr><td>1<td>2</table><li>z"),
    DOCUMENT("a.json", "[{\"a\": {\"b\": [1, \"\\u00e9\"]}, \"c\": null}, {\"d\": \"e\\n\"}]"),
    DOCUMENT("b.json", "[{\"a\": {\"b\": [1, \"\\u00e9\"]}, broken"),
    DOCUMENT("a.csv", "a,b\n\"x \"\"y\"\"\nz\",2\n3,\n"),
    DOCUMENT("a.md", "# H\n\nT\n===\n\n```\ncode\n\n```\n| a |\n| b |\n"),
    DOCUMENT("a.c", "int f()\n{\n  int a;\n\n  b;\n}\n\nint g;\n"),
    DOCUMENT("a.txt", "\xFF\xFE"
                      "a\0 \0b\0\n\0\n\0c\0"),
};

static aiinfra_status load_all(void *ctx)
{
  aii_mem mem;
  aiinfra_status rc = AIINFRA_OK;
  (void)ctx;
  aii_mem_init(&mem, torture_allocator(), 0);
  for (size_t i = 0; rc == AIINFRA_OK && i < sizeof documents / sizeof documents[0]; i++) {
    aii_loaded doc;
    aii_cutter cutter;
    aii_chunk chunk;
    size_t n = 0;
    aii_loaded_init(&doc, &mem);
    rc = aii_load(&doc, documents[i].name, documents[i].bytes, documents[i].n, NULL);
    aii_cutter_init(&cutter, &doc, &(aii_cut_opts){.size = 16, .overlap = 4});
    while (rc == AIINFRA_OK && aii_cutter_next(&cutter, &chunk)) n++;
    if (rc == AIINFRA_OK) torture_check(n > 0, "there are passages");
    aii_loaded_free(&doc);
  }
  torture_check(mem.used_bytes == 0, "all memory is given back");
  return rc;
}

/* ---- packing and embedding ----------------------------------------------------------------------------------------- */

enum { DIMS = 4 };

static int embed(void *user, const char *const *texts, size_t n, int question, float *vectors)
{
  (void)user, (void)question;
  for (size_t i = 0; i < n * DIMS; i++) vectors[i] = 1 + (float)strlen(texts[i / DIMS]);
  return 0;
}

static int rerank(void *user, const char *question, const char *const *texts, size_t n, float *scores)
{
  (void)user, (void)question;
  for (size_t i = 0; i < n; i++) scores[i] = (float)strlen(texts[i]);
  return 0;
}

static const char *folder(void)
{
  static const char text[] = "# A\n\nThe port is 8080.\n\n# B\n\nThe other port is 9090. It is not used. Never.\n";
  static char path[512];
  char file[600];
  if (path[0] != '\0') return path;
  snprintf(path, sizeof path, "%s", test_tmp("docs"));
  mkdir(path, 0700);
  snprintf(file, sizeof file, "%s/server.md", path);
  assert_int_equal(test_write_file(file, text, sizeof text - 1), 0);
  snprintf(file, sizeof file, "%s/b.png", path);
  assert_int_equal(test_write_file(file, "\x89PNG\0", 5), 0);
  return path;
}

/* In, moved, packed, asked, and the file is gone. */
static aiinfra_status use_memory(aiinfra_memory *memory)
{
  aiinfra_embedder e = AIINFRA_EMBEDDER_INIT;
  aiinfra_pack_opts pack = AIINFRA_PACK_OPTS_INIT;
  const char *path = folder();
  char *text = NULL;
  e.name = "lengths";
  e.embed = embed;
  e.dims = DIMS;
  pack.rerank = rerank;
  pack.budget_tokens = 30;
  aiinfra_status rc = torture_made(aiinfra_memory_ingest_files(memory, &path, 1, NULL, &text, NULL), &text, "ingest");
  if (rc == AIINFRA_OK) torture_check(strstr(text, "PNG image") != NULL, "the problem is told");
  aiinfra_string_free(text);
  if (rc != AIINFRA_OK) return rc;
  rc = torture_made(aiinfra_memory_migrate(memory, &e, NULL, NULL, &text, NULL), &text, "migrate");
  aiinfra_string_free(text);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_remember(memory, "My cat is called Miso.", NULL, NULL, NULL);
  if (rc == AIINFRA_OK)
    rc = torture_made(aiinfra_memory_pack(memory, "Which port?", &pack, &text, NULL), &text, "pack");
  if (rc == AIINFRA_OK) torture_check(strstr(text, "port") != NULL, "the passage is packed");
  if (rc == AIINFRA_OK) aiinfra_string_free(text);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_use_embedder(memory, &e, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_migrate(memory, NULL, NULL, NULL, NULL, NULL);
  return rc;
}

static aiinfra_status pack_and_move(void *ctx)
{
  aiinfra_runtime *runtime = NULL;
  aiinfra_db *db = NULL;
  aiinfra_memory *memory = NULL;
  (void)ctx;
  torture_pause("runtime and database");
  aiinfra_status rc = scene_runtime(&runtime);
  if (rc == AIINFRA_OK) rc = aiinfra_db_open(runtime, ":memory:", NULL, &db, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_open(db, NULL, &memory, NULL);
  torture_resume();
  if (rc == AIINFRA_OK) rc = use_memory(memory);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
  aiinfra_runtime_free(runtime);
  return rc;
}

static void loading(void **state)
{
  (void)state;
  assert_int_equal(torture_run("retrieve.load", load_all, NULL, NULL), 0);
}

static void packing(void **state)
{
  const torture_opts opts = {.max_calls = 150};
  (void)state;
  assert_int_equal(torture_run("retrieve.pack", pack_and_move, NULL, &opts), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(loading), cmocka_unit_test(packing)};
  folder();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
