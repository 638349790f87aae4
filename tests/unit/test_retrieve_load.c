/* test_retrieve_load.c - documents of every format become text, and every byte of it leads back to the source. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/retrieve/retrieve.h"
#include "support/support.h"

static aii_mem mem;
static aiinfra_error err;

/* The invariants of retrieve.h. */
static void check_sound(const aii_loaded *doc, const char *source, size_t n)
{
  size_t at = 0;
  assert_true(aii_utf8_valid(aii_buf_cstr(&doc->text), doc->text.len));
  for (size_t i = 0; i < doc->n_pieces; i++) {
    const aii_piece *p = &doc->pieces[i];
    size_t end = i + 1 < doc->n_pieces ? p[1].text : doc->text.len;
    assert_int_equal(p->text, at);
    assert_true(end > at && p->end >= p->source);
    if (doc->format != AII_FORMAT_PDF) assert_true(p->end <= n);
    if (p->exact) assert_int_equal(p->end - p->source, end - at);
    if (p->exact && doc->format != AII_FORMAT_PDF)
      assert_memory_equal(source + p->source, doc->text.data + at, end - at);
    at = end;
  }
  assert_int_equal(at, doc->text.len);
  at = 0;
  for (size_t i = 0; i < doc->n_blocks; i++) {
    const aii_textblock *b = &doc->blocks[i];
    assert_true(b->first >= at && b->first + b->n <= doc->text.len);
    at = b->first + b->n;
  }
}

static void load(aii_loaded *doc, const char *name, const char *bytes, size_t n)
{
  aii_loaded_init(doc, &mem);
  if (aii_load(doc, name, bytes, n, &err) != AIINFRA_OK) fail_msg("%s: %s", name, err.message);
  check_sound(doc, bytes, n);
}

static void check_text(const char *name, const char *bytes, size_t n, aii_format format, const char *text)
{
  aii_loaded doc;
  load(&doc, name, bytes, n);
  assert_int_equal(doc.format, format);
  assert_string_equal(aii_buf_cstr(&doc.text), text);
  aii_loaded_free(&doc);
}
#define CHECK(name, bytes, format, text) check_text(name, bytes, sizeof bytes - 1, format, text)

/* What `text` was made from. */
static void check_source(const char *name, const char *bytes, size_t n, const char *text, const char *source)
{
  aii_loaded doc;
  size_t from, to;
  load(&doc, name, bytes, n);
  const char *found = strstr(aii_buf_cstr(&doc.text), text);
  assert_non_null(found);
  aii_loaded_source(&doc, (size_t)(found - doc.text.data), strlen(text), &from, &to);
  if (to - from != strlen(source) || memcmp(bytes + from, source, to - from) != 0)
    fail_msg("'%s' comes from '%.*s', not from '%s'", text, (int)(to - from), bytes + from, source);
  aii_loaded_free(&doc);
}

static void test_html(void **state)
{
  static const char page[] =
      "<!DOCTYPE html><html><head><title>The  title</title><style>p { a: b }</style>\n"
      "<script>if (a < b) document.write('<p>no</p>')</script></head><body>\n"
      "<h1 class='a>b'>Caf&eacute; &amp; Bar</h1>\n<p>One\n two <b>three</b>.<br>Four</p><!-- no -- > -->\n"
      "<ul><li>first<li>second</ul><pre>a\n  b</pre>\n"
      "<table><tr><th>Name<th>Age</tr><tr><td>Ann<td>7</tr></table>1 < 2 &unknown; &#x41;&#8364;</body>";
  (void)state;
  CHECK("a.html", page, AII_FORMAT_HTML,
        "The title\n\nCaf\xC3\xA9 & Bar\n\nOne two three.\nFour\n\n- first\n- second\n\na\n  b\n\n"
        "Name | Age\nAnn | 7\n\n\n1 < 2 &unknown; A\xE2\x82\xAC\n\n");
  check_source("a.html", page, sizeof page - 1, "Caf\xC3\xA9 & Bar", "Caf&eacute; &amp; Bar");
  check_source("a.html", page, sizeof page - 1, "two three", "two <b>three");
  check_source("a", page, sizeof page - 1, "second", "second");
  aii_loaded doc;
  load(&doc, "a.html", page, sizeof page - 1);
  assert_int_equal(doc.blocks[0].kind, AII_BLOCK_HEADING);
  assert_int_equal(doc.blocks[1].kind, AII_BLOCK_HEADING);
  assert_int_equal(doc.blocks[2].kind, AII_BLOCK_PROSE);
  aii_loaded_free(&doc);
}

static void test_broken_html(void **state)
{
  (void)state;
  CHECK("a.html", "a < b <p", AII_FORMAT_HTML, "a < b <p\n\n");
  CHECK("a.html", "<p title=\"never closed>text</p> more", AII_FORMAT_HTML, "text\n\nmore\n\n");
  CHECK("a.html", "</p></div></h1>x</td><h2>H", AII_FORMAT_HTML, "x\n\nH\n\n");
  CHECK("a.html", "kept <script>lost", AII_FORMAT_HTML, "kept\n\n");
  CHECK("a.html", "kept <!-- lost", AII_FORMAT_HTML, "kept\n\n");
  CHECK("a.html", "&#0; &#xD800; &#99999999; &", AII_FORMAT_HTML, "&#0; &#xD800; &#99999999; &\n\n");
  CHECK("a.html", "", AII_FORMAT_HTML, "");
}

static void test_csv(void **state)
{
  static const char table[] = "Name,City,Note\r\nAnn,Bern,\"a \"\"b\"\"\nc\"\r\nBob,,\r\n\r\n,,x";
  (void)state;
  CHECK("a.csv", table, AII_FORMAT_CSV, "Name: Ann; City: Bern; Note: a \"b\" c\nName: Bob\nNote: x\n");
  check_source("a.csv", table, sizeof table - 1, "Note: a \"b\" c", "a \"\"b\"\"\nc");
  CHECK("a.tsv", "k\tv\n1\t2", AII_FORMAT_CSV, "k: 1; v: 2\n");
  CHECK("a.csv", "1;2\n3;4\n", AII_FORMAT_CSV, "1; 2\n3; 4\n"); /* no names */
  CHECK("a.csv", "a,b\n1,2,3\n\"never closed, 4", AII_FORMAT_CSV, "a: 1; b: 2; 3\na: never closed, 4\n");
  CHECK("a.csv", "", AII_FORMAT_CSV, "");
}

static void test_json(void **state)
{
  static const char records[] =
      "[{\"name\": \"Ann\\u00e9\", \"home\": {\"city\": \"Be\\nrn\"}, \"tags\": [\"a\", \"b\"], "
      "\"none\": null},\n {\"name\": \"Bob\", \"age\": 7, \"kids\": [{\"name\": \"C\"}]}]";
  (void)state;
  CHECK("a.json", records, AII_FORMAT_JSON,
        "name: Ann\xC3\xA9\nhome.city: Be\nrn\ntags: a, b\nname: Bob\nage: 7\nkids.name: C\n");
  check_source("a.json", records, sizeof records - 1, "Ann\xC3\xA9", "Ann\\u00e9");
  check_source("a.json", records, sizeof records - 1, "tags: a, b", "\"a\", \"b");
  CHECK("a.jsonl", "{\"a\":1}\n{\"a\":true}\n", AII_FORMAT_JSON, "a: 1\na: true\n");
  CHECK("a.json", "{\"a\":{},\"b\":[],\"c\":\"\\ud83d\\ude00\"}", AII_FORMAT_JSON, "c: \xF0\x9F\x98\x80\n");
  CHECK("a.json", "\"one\"", AII_FORMAT_JSON, "one\n");
  CHECK("a.json", "[[1,2],[3]]", AII_FORMAT_JSON, "1, 2\n3\n");
  /* what is no JSON is text */
  CHECK("a.json", "{\"a\": 1,}", AII_FORMAT_TEXT, "{\"a\": 1,}");
  CHECK("a.json", "{'a': 1}", AII_FORMAT_TEXT, "{'a': 1}");
  CHECK("a.json", "[1, 2", AII_FORMAT_TEXT, "[1, 2");
  CHECK("a.json", "{\"a\": \"\\uZZZZ\"}", AII_FORMAT_TEXT, "{\"a\": \"\\uZZZZ\"}");
}

/* Each object is a block: a record is not cut while it fits. */
static void test_records(void **state)
{
  static const char records[] = "{\"n\": 2, \"all\": [{\"a\": 1, \"b\": 2}, {\"a\": 3, \"b\": 4}]}";
  aii_loaded doc;
  (void)state;
  load(&doc, "a.json", records, sizeof records - 1);
  assert_string_equal(doc.text.data, "n: 2\nall.a: 1\nall.b: 2\nall.a: 3\nall.b: 4\n");
  assert_int_equal(doc.n_blocks, 3);
  assert_memory_equal(doc.text.data + doc.blocks[1].first, "all.a: 1\nall.b: 2\n", doc.blocks[1].n);
  aii_loaded_free(&doc);
}

static void test_encodings(void **state)
{
  static const char little[] = "\xFF\xFE#\0 \0\xE4\0\n\0a\0 \0\x3D\xD8\0\xDE", big[] = "\xFE\xFF\0a\0\n\0b";
  (void)state;
  CHECK("a.md", "\xEF\xBB\xBF# A\n\nB", AII_FORMAT_MARKDOWN, "# A\n\nB");
  check_source("a.md", "\xEF\xBB\xBF# A\n\nB", 9, "B", "B");
  CHECK("a.md", little, AII_FORMAT_MARKDOWN, "# \xC3\xA4\na \xF0\x9F\x98\x80");
  check_text("a.txt", big, sizeof big - 1, AII_FORMAT_TEXT, "a\nb");
  aii_loaded doc;
  size_t from, to;
  load(&doc, "a.md", little, sizeof little - 1);
  aii_loaded_source(&doc, 5, 1, &from, &to); /* the a */
  assert_int_equal(from, 10);
  assert_int_equal(to, 12);
  aii_loaded_free(&doc);
  CHECK("a.txt",
        "Gr\xFC\xDF"
        "e, 5 \x80.",
        AII_FORMAT_TEXT,
        "Gr\xC3\xBC\xC3\x9F"
        "e, 5 \xE2\x82\xAC.");
  CHECK("a.html", "\xEF\xBB\xBF<p>a&amp;b</p>", AII_FORMAT_HTML, "a&b\n\n");
  check_source("a.html", "\xEF\xBB\xBF<p>a&amp;b</p>", 17, "a&b", "a&amp;b");
  CHECK("a.html", "<p>\xE4 &lt;</p>", AII_FORMAT_HTML, "\xC3\xA4 <\n\n");
}

static void test_refusals(void **state)
{
  static const struct {
    const char *bytes;
    size_t n;
    const char *why;
  } cases[] = {{"\x89PNG\r\n\x1A\n\0", 9, "a PNG image"},
               {"PK\x03\x04\0\0", 6, "ZIP"},
               {"\x7F"
                "ELF\x02\x01\0",
                7, "a program"},
               {"text\0more", 9, "binary"},
               {"\xFF\xFE"
                "a\0\0\0",
                6, "binary"},
               {"\xF5\x81\x82\x83\x84\x85", 6, "binary"},
               {"GGUF\x03\0\0\0", 8, "a model"}};
  (void)state;
  for (size_t i = 0; i < AII_COUNT(cases); i++) {
    aii_loaded doc;
    aii_loaded_init(&doc, &mem);
    assert_int_equal(aii_load(&doc, "a.txt", cases[i].bytes, cases[i].n, &err), AIINFRA_ENOTSUP);
    if (strstr(err.message, cases[i].why) == NULL) fail_msg("'%s' does not say '%s'", err.message, cases[i].why);
    aii_loaded_free(&doc);
  }
}

/* ---- PDF ----------------------------------------------------------------------------------------------------------- */

static void with_path(const char *folder, const char *script)
{
  char name[512];
  snprintf(name, sizeof name, "%s/pdftotext", folder);
  mkdir(folder, 0700);
  assert_int_equal(test_write_file(name, script, strlen(script)), 0);
  assert_int_equal(chmod(name, 0700), 0);
  setenv("PATH", folder, 1);
}

static void check_pdf(aiinfra_status status, const char *text)
{
  aii_loaded doc;
  aii_loaded_init(&doc, &mem);
  assert_int_equal(aii_load(&doc, "-a.pdf", "%PDF-1.4\n", 9, &err), status);
  const char *got = status == AIINFRA_OK ? aii_buf_cstr(&doc.text) : err.message;
  if (strstr(got, text) == NULL) fail_msg("'%s' does not say '%s'", got, text);
  if (status == AIINFRA_OK) check_sound(&doc, NULL, 0);
  aii_loaded_free(&doc);
}

static void test_pdf_program(void **state)
{
  char before[4096];
  const char *folder = test_tmp("bin");
  (void)state;
  snprintf(before, sizeof before, "%s", getenv("PATH"));
  mkdir(folder, 0700);
  setenv("PATH", folder, 1);
  check_pdf(AIINFRA_ENOTSUP, "install poppler-utils");
  with_path(folder, "#!/bin/sh\n[ \"$1 $2 $3 $4 $5\" = \"-q -enc UTF-8 ./-a.pdf -\" ] && printf 'One.\\n\\fTwo.'\n");
  check_pdf(AIINFRA_OK, "One.\n\fTwo.");
  with_path(folder, "#!/bin/sh\nexit 1\n");
  check_pdf(AIINFRA_EFORMAT, "damaged");
  with_path(folder, "#!/bin/sh\nprintf ' \\n'\n");
  check_pdf(AIINFRA_ENOTSUP, "no text");
  with_path(folder, "#!/bin/sh\nprintf 'a\\377'\n");
  check_pdf(AIINFRA_EFORMAT, "no UTF-8");
  with_path(folder,
            "#!/bin/sh\nwhile :; do printf 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'; done\n");
  check_pdf(AIINFRA_ELIMIT, "16 MiB");
  setenv("PATH", before, 1);
}

/* A file with two pages, by the real program. */
static void test_pdf_file(void **state)
{
  static const char *const objects[] = {
      "<</Type/Catalog/Pages 2 0 R>>",
      "<</Type/Pages/Kids[3 0 R 4 0 R]/Count 2>>",
      "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 5 0 R/Resources<</Font<</F 7 0 R>>>>>>",
      "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 6 0 R/Resources<</Font<</F 7 0 R>>>>>>",
      "<</Length 43>>\nstream\nBT /F 12 Tf 50 200 Td (Port is 7420.) Tj ET\nendstream",
      "<</Length 43>>\nstream\nBT /F 12 Tf 50 200 Td (Second page.) Tj ET\n\nendstream",
      "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"};
  char file[4096];
  size_t n = (size_t)sprintf(file, "%%PDF-1.4\n"), at[8];
  const char *path = test_tmp("two.pdf");
  aii_loaded doc;
  (void)state;
  if (system("command -v pdftotext >/dev/null 2>&1") != 0) test_skip("needs pdftotext (poppler-utils)");
  for (size_t i = 0; i < AII_COUNT(objects); i++) {
    at[i] = n;
    n += (size_t)sprintf(file + n, "%zu 0 obj\n%s\nendobj\n", i + 1, objects[i]);
  }
  size_t xref = n;
  n += (size_t)sprintf(file + n, "xref\n0 8\n0000000000 65535 f \n");
  for (size_t i = 0; i < AII_COUNT(objects); i++) n += (size_t)sprintf(file + n, "%010zu 00000 n \n", at[i]);
  n += (size_t)sprintf(file + n, "trailer<</Size 8/Root 1 0 R>>\nstartxref\n%zu\n%%%%EOF\n", xref);
  assert_int_equal(test_write_file(path, file, n), 0);
  load(&doc, path, file, n);
  assert_int_equal(doc.format, AII_FORMAT_PDF);
  const char *first = strstr(doc.text.data, "Port is 7420."), *second = strstr(doc.text.data, "Second page.");
  assert_true(first != NULL && second != NULL && memchr(first, '\f', (size_t)(second - first)) != NULL);
  aii_loaded_free(&doc);
}

/* ---- anything ------------------------------------------------------------------------------------------------------ */

static void test_random_bytes(void **state)
{
  static const char *const parts[] = {"<p>",      "</p>",    "<h2 a=\"", "\">",       "&amp;", "&#6",
                                      "<!--",     "-->",     "<script>", "</script>", "<pre>", "<table><tr><td>",
                                      "<li>",     "{\"a\":", "[",        "]",         "}",     ",",
                                      "\"x\\u00", "\"",      "1",        "null",      "\n",    " ",
                                      ";",        "word",    "\xC3\xA9", "\xE9",      "# H\n", "```\n",
                                      "'",        "\\",      "</",       "<"};
  static const char *const names[] = {"a.html", "a.json", "a.csv", "a.md", "a.c", "a", "a.jsonl", "a.tsv"};
  unsigned long long seed = test_seed();
  (void)state;
  for (int round = 0; round < 20000; round++) {
    char bytes[1024];
    size_t n = 0;
    for (size_t i = 0, k = test_random(&seed) % 40; i < k; i++) {
      const char *part = parts[test_random(&seed) % AII_COUNT(parts)];
      memcpy(bytes + n, part, strlen(part));
      n += strlen(part);
    }
    aii_loaded doc;
    aii_loaded_init(&doc, &mem);
    const char *name = names[test_random(&seed) % AII_COUNT(names)];
    if (aii_load(&doc, name, bytes, n, &err) == AIINFRA_OK) {
      /* only what was decoded has no bytes of its own */
      size_t skip;
      if (aii_encoding_of(bytes, n, &skip) == AII_ENCODING_UTF8) check_sound(&doc, bytes, n);
    }
    aii_loaded_free(&doc);
  }
  assert_int_equal(mem.used_bytes, 0);
}

static int set_up(void **state)
{
  (void)state;
  aii_mem_init(&mem, NULL, 0);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_html),         cmocka_unit_test(test_broken_html), cmocka_unit_test(test_csv),
      cmocka_unit_test(test_json),         cmocka_unit_test(test_records),     cmocka_unit_test(test_encodings),
      cmocka_unit_test(test_refusals),     cmocka_unit_test(test_pdf_program), cmocka_unit_test(test_pdf_file),
      cmocka_unit_test(test_random_bytes),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
