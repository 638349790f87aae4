/* test_filter.c - the conformance tables of docs/vector.md, executed; what is refused, and with which words; bounds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/vector/doc.h"
#include "support/support.h"

static aii_mem mem;
static aiinfra_error err;

/* The rows; the id is the index. */
static const char *const ROWS[] = {
    "{\"lang\":\"en\",\"n\":1,\"tags\":[\"a\",\"b\"],\"ok\":true,\"text\":\"The Quick brown fox\"}", /* 0 */
    "{\"lang\":\"de\",\"n\":2.5,\"tags\":[],\"ok\":false,\"meta\":{\"year\":2020}}",                 /* 1 */
    "{\"lang\":null,\"n\":-3,\"a.b\":7,\"items\":[{\"p\":1},{\"p\":9}]}",                            /* 2 */
    "{}",                                                                                            /* 3 */
    "{\"lang\":\"en\",\"n\":9007199254740993,\"n2\":\"1\",\"meta\":{\"year\":2021,\"tags\":[1,2]}}", /* 4 */
};

static const struct {
  const char *filter, *passing; /* ids as digits */
} TABLE[] = {
    {"{}", "01234"},
    /* Qdrant */
    {"{\"must\":[{\"key\":\"lang\",\"match\":{\"value\":\"en\"}}]}", "04"},
    {"{\"must\":{\"key\":\"lang\",\"match\":{\"value\":\"en\"}}}", "04"},
    {"{\"key\":\"lang\",\"match\":{\"value\":\"en\"}}", "04"},
    {"{\"must_not\":[{\"key\":\"lang\",\"match\":{\"value\":\"en\"}}]}", "123"},
    {"{\"should\":[{\"key\":\"n\",\"match\":{\"value\":1}},{\"key\":\"lang\",\"match\":{\"value\":\"de\"}}]}", "01"},
    {"{\"should\":[]}", "01234"},
    {"{\"must\":[]}", "01234"},
    {"{\"must_not\":[]}", "01234"},
    {"{\"must\":[{\"key\":\"lang\",\"match\":{\"value\":\"en\"}}],\"must_not\":[{\"key\":\"n\",\"match\":{\"value\":1}}"
     "]}",
     "4"},
    {"{\"must\":[{\"key\":\"tags\",\"match\":{\"value\":\"b\"}}]}", "0"},
    {"{\"must\":[{\"key\":\"lang\",\"match\":{\"any\":[\"de\",\"en\"]}}]}", "014"},
    {"{\"must\":[{\"key\":\"lang\",\"match\":{\"any\":[]}}]}", ""},
    {"{\"must\":[{\"key\":\"lang\",\"match\":{\"except\":[\"en\"]}}]}", "1"},
    {"{\"must\":[{\"key\":\"text\",\"match\":{\"text\":\"FOX quick\"}}]}", "0"},
    {"{\"must\":[{\"key\":\"text\",\"match\":{\"text\":\"fox wolf\"}}]}", ""},
    {"{\"must\":[{\"key\":\"text\",\"match\":{\"text\":\"quic\"}}]}", ""},
    {"{\"must\":[{\"key\":\"text\",\"match\":{\"text_any\":\"fox wolf\"}}]}", "0"},
    {"{\"must\":[{\"key\":\"text\",\"match\":{\"text\":\"\"}}]}", ""},
    {"{\"must\":[{\"key\":\"n\",\"range\":{\"gt\":1}}]}", "14"},
    {"{\"must\":[{\"key\":\"n\",\"range\":{\"gte\":1,\"lt\":2.5}}]}", "0"},
    {"{\"must\":[{\"key\":\"n\",\"range\":{\"lte\":2.5}}]}", "012"},
    {"{\"must\":[{\"key\":\"lang\",\"range\":{\"gt\":0}}]}", ""},
    {"{\"must\":[{\"key\":\"meta.year\",\"range\":{\"gte\":2021}}]}", "4"},
    {"{\"must\":[{\"key\":\"meta.tags\",\"match\":{\"value\":2}}]}", "4"},
    {"{\"must\":[{\"key\":\"items[].p\",\"range\":{\"gt\":5}}]}", "2"},
    {"{\"must\":[{\"key\":\"items[].p\",\"match\":{\"value\":5}}]}", ""},
    {"{\"must\":[{\"key\":\"a.b\",\"match\":{\"value\":7}}]}", "2"},
    {"{\"must\":[{\"is_null\":{\"key\":\"lang\"}}]}", "2"},
    {"{\"must\":[{\"is_empty\":{\"key\":\"tags\"}}]}", "1234"},
    {"{\"must\":[{\"is_empty\":{\"key\":\"lang\"}}]}", "23"},
    {"{\"must_not\":[{\"is_empty\":{\"key\":\"lang\"}}]}", "014"},
    {"{\"must\":[{\"has_id\":[0,3,77]}]}", "03"},
    {"{\"min_should\":{\"conditions\":[{\"key\":\"lang\",\"match\":{\"value\":\"en\"}},"
     "{\"key\":\"n\",\"match\":{\"value\":1}},{\"key\":\"ok\",\"match\":{\"value\":true}}],\"min_count\":2}}",
     "0"},
    {"{\"must\":[{\"should\":[{\"lang\":\"de\"},{\"ok\":true}]},{\"must_not\":[{\"n\":1}]}]}", "1"},
    /* Chroma */
    {"{\"lang\":\"en\"}", "04"},
    {"{\"lang\":{\"$eq\":\"en\"}}", "04"},
    {"{\"lang\":{\"$ne\":\"en\"}}", "123"},
    {"{\"n\":{\"$gt\":1}}", "14"},
    {"{\"n\":{\"$gte\":1,\"$lte\":2.5}}", "01"},
    {"{\"n\":{\"$lt\":0}}", "2"},
    {"{\"lang\":{\"$in\":[\"de\"]}}", "1"},
    {"{\"lang\":{\"$nin\":[\"de\",\"en\"]}}", "23"},
    {"{\"ok\":true}", "0"},
    {"{\"ok\":false}", "1"},
    {"{\"$and\":[{\"lang\":\"en\"},{\"n\":1}]}", "0"},
    {"{\"$or\":[{\"lang\":\"de\"},{\"n\":-3}]}", "12"},
    {"{\"lang\":\"en\",\"n\":1.0}", "0"},
    {"{\"meta.year\":2020}", "1"},
    /* types do not mix, large integers are exact */
    {"{\"n2\":1}", ""},
    {"{\"n2\":\"1\"}", "4"},
    {"{\"ok\":1}", ""},
    {"{\"n\":9007199254740993}", "4"},
    {"{\"n\":9007199254740992}", ""},
    {"{\"n\":{\"$gt\":9007199254740992}}", "4"},
    {"{\"n\":{\"$gt\":9007199254740992.0}}", "4"},
};

static const struct {
  const char *filter, *path; /* what the message must hold */
} WRONG[] = {
    {"[]", "expected an object"},
    {"{", "filter"},
    {"nonsense", "filter"},
    {"{\"must\":1}", "must"},
    {"{\"must\":[1]}", "must[0]"},
    {"{\"must\":[{},{\"key\":\"a\",\"match\":{\"near\":1}}]}", "must[1].match.near"},
    {"{\"must\":[{\"key\":\"a\",\"match\":{\"value\":[1]}}]}", "must[0].match.value"},
    {"{\"must\":[{\"key\":\"a\",\"match\":{\"any\":1}}]}", "must[0].match.any"},
    {"{\"must\":[{\"key\":\"a\",\"match\":{}}]}", "must[0].match"},
    {"{\"must\":[{\"key\":\"a\",\"range\":{\"gt\":\"1\"}}]}", "must[0].range.gt"},
    {"{\"must\":[{\"key\":\"a\",\"geo_radius\":{}}]}", "must[0].geo_radius"},
    {"{\"must\":[{\"is_null\":{\"field\":\"a\"}}]}", "must[0].is_null"},
    {"{\"must\":[{\"has_id\":[\"a\"]}]}", "must[0].has_id"},
    {"{\"min_should\":{\"conditions\":[]}}", "min_should"},
    {"{\"a\":{\"$regex\":\"x\"}}", "a.$regex"},
    {"{\"a\":{\"b\":1}}", "a.b"},
    {"{\"a\":[1]}", "a"},
    {"{\"a\":null}", "a"},
    {"{\"$not\":[]}", "$not"},
    {"{\"$or\":[{\"$and\":[{\"x\":{\"$in\":3}}]}]}", "$or[0].$and[0].x.$in"},
    {"{\"a\":{\"$in\":[1,null]}}", "a.$in[1]"},
    {"{\"a..b\":1}", "'a..b' has an empty part"},
    {"{\"a[x]\":1}", "'a[x]'"},
    {"{\"a\\\"b\":1}", "quote"},
    {"{\"a[0]b\":1}", "'a[0]b'"},
    {"{\"must\":[{\"key\":\"\",\"match\":{\"value\":1}}]}", "empty part"},
    {"{\"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q\":1}", "16 parts"},
    {"{\"key\":\"a\",\"match\":{\"value\":1},\"range\":{\"gt\":1}}", "range: a second operator"},
    {"{\"key\":\"a\",\"match\":{\"value\":1,\"any\":[1]}}", "match: expected an object with one operator"},
    {"{\"key\":\"a\",\"range\":{\"gt\":null}}", "range"},
    {"{\"key\":\"a\",\"range\":{\"gt\":1,\"lt\":\"2020-01-31\"}}", "range.lt"},
    {"{\"key\":\"a\",\"range\":{\"gt\":\"2020-02-30\"}}", "range.gt"},
    {"{\"key\":\"a\",\"range\":{\"gt\":\"2020-01-31T24:00:00Z\"}}", "range.gt"},
    {"{\"key\":\"a\",\"values_count\":{\"gt\":1.5}}", "values_count.gt"},
    {"{\"key\":\"a\",\"values_count\":{\"eq\":1}}", "values_count.eq"},
    {"{\"key\":\"a\",\"is_null\":1}", "is_null"},
    {"{\"nested\":{\"key\":\"a\"}}", "nested"},
    {"{\"nested\":{\"key\":\"a\",\"filter\":{\"b\":{\"$x\":1}}}}", "nested.filter.b.$x"},
    {"{\"nested\":{\"key\":\"a\",\"filter\":{\"has_id\":[1]}}}", "nested.filter.has_id"},
    {"{\"min_should\":{\"conditions\":[],\"min_count\":-1}}", "min_should"},
    {"{\"key\":\"a\",\"geo_circle\":{}}", "geo_circle"},
    {"{\"key\":\"a\",\"geo_radius\":{\"center\":{\"lon\":1,\"lat\":91},\"radius\":1}}", "geo_radius.center"},
    {"{\"key\":\"a\",\"geo_radius\":{\"center\":{\"lon\":1,\"lat\":1},\"radius\":-1}}", "geo_radius.radius"},
    {"{\"key\":\"a\",\"geo_bounding_box\":{\"top_left\":{\"lon\":1,\"lat\":1},\"bottom_right\":{\"lon\":2,\"lat\":2}}}",
     "not above"},
    {"{\"key\":\"a\",\"geo_polygon\":{\"exterior\":{\"points\":[{\"lon\":0,\"lat\":0},{\"lon\":1,\"lat\":0},"
     "{\"lon\":1,\"lat\":1},{\"lon\":0,\"lat\":1}]}}}",
     "exterior.points: the last point"},
    {"{\"key\":\"a\",\"geo_polygon\":{\"exterior\":{\"points\":[{\"lon\":0,\"lat\":0},{\"lon\":180,\"lat\":0},"
     "{\"lon\":1,\"lat\":1},{\"lon\":0,\"lat\":0}]}}}",
     "points[1]: an edge of half the globe"},
    {"{\"key\":\"a\",\"geo_polygon\":{\"exterior\":{\"points\":[{\"lon\":-180,\"lat\":0},{\"lon\":180,\"lat\":0},"
     "{\"lon\":180,\"lat\":1},{\"lon\":-180,\"lat\":0}]}}}",
     "points[1]: an edge around the whole globe"},
    {"{\"key\":\"a\",\"geo_polygon\":{\"exterior\":{\"points\":[{\"lon\":0,\"lat\":80},{\"lon\":120,\"lat\":80},"
     "{\"lon\":-120,\"lat\":80},{\"lon\":0,\"lat\":80}]}}}",
     "a ring around a pole"},
};

static void test_table(void **state)
{
  (void)state;
  for (size_t t = 0; t < AII_COUNT(TABLE); t++) {
    aii_filter *filter;
    char passing[AII_COUNT(ROWS) + 1];
    size_t n = 0;
    aiinfra_status rc = aii_filter_compile(&mem, TABLE[t].filter, &filter, &err);
    if (rc != AIINFRA_OK) fail_msg("%s: %s", TABLE[t].filter, err.message);
    for (size_t i = 0; i < AII_COUNT(ROWS); i++) {
      json_t *row = json_loads(ROWS[i], 0, NULL);
      assert_non_null(row);
      bool passes;
      assert_true(aii_filter_test(filter, (int64_t)i, row, &passes));
      if (passes) passing[n++] = (char)('0' + i);
      json_decref(row);
    }
    passing[n] = '\0';
    if (strcmp(passing, TABLE[t].passing) != 0) {
      fail_msg("%s passes '%s', not '%s'", TABLE[t].filter, passing, TABLE[t].passing);
    }
    aii_filter_free(filter);
  }
  assert_int_equal(mem.used_bytes, 0);
}

static void test_wrong(void **state)
{
  (void)state;
  for (size_t t = 0; t < AII_COUNT(WRONG); t++) {
    aii_filter *filter;
    aiinfra_status rc = aii_filter_compile(&mem, WRONG[t].filter, &filter, &err);
    if (rc != AIINFRA_EINVAL) fail_msg("%s gives %s", WRONG[t].filter, aiinfra_status_name(rc));
    assert_null(filter);
    if (strstr(err.message, WRONG[t].path) == NULL) fail_msg("%s: '%s' does not name it", WRONG[t].filter, err.message);
  }
  assert_int_equal(mem.used_bytes, 0);
}

/* ---- the tables of the documentation ---------------------------------------------------------------------------- */

enum { MAX_COLUMNS = 16 };

/* Cuts a line of a table into cells, without blanks and code marks around them. */
static size_t cut(char *line, char *cells[MAX_COLUMNS])
{
  size_t n = 0;
  for (char *at = line + 1, *bar; n < MAX_COLUMNS && (bar = strchr(at, '|')) != NULL; at = bar + 1) {
    char *end = bar;
    while (at < end && (*at == ' ' || *at == '`')) at++;
    while (end > at && (end[-1] == ' ' || end[-1] == '`')) end--;
    *end = '\0';
    cells[n++] = at;
  }
  return n;
}

static bool passes_cell(const char *filter_json, const char *value)
{
  char payload[512];
  aii_filter *filter;
  bool passes;
  snprintf(payload, sizeof payload, strcmp(value, "missing") == 0 ? "{}" : "{\"a\":%s}", value);
  json_t *json = json_loads(payload, 0, NULL);
  if (json == NULL) fail_msg("%s is no JSON", payload);
  aiinfra_status rc = aii_filter_compile(&mem, filter_json, &filter, &err);
  if (rc != AIINFRA_OK) fail_msg("%s: %s", filter_json, err.message);
  assert_true(aii_filter_test(filter, 1, json, &passes));
  aii_filter_free(filter);
  json_decref(json);
  return passes;
}

static void test_documented_tables(void **state)
{
  char *page = test_read_file(test_path("docs/vector.md"), NULL), *next;
  char *header[MAX_COLUMNS] = {NULL}, *cells[MAX_COLUMNS];
  size_t columns = 0, executed = 0;
  (void)state;
  assert_non_null(page);
  for (char *line = page; line != NULL; line = next) {
    next = strchr(line, '\n');
    if (next != NULL) *next++ = '\0';
    if (line[0] != '|') columns = 0;
    if (strncmp(line, "| filter |", 10) == 0) columns = cut(line, header);
    else if (columns > 0 && line[0] == '|' && line[1] != '-') {
      assert_int_equal(cut(line, cells), columns);
      for (size_t i = 1; i < columns; i++, executed++) {
        const char *is = passes_cell(cells[0], header[i]) ? "yes" : "no";
        if (strcmp(is, cells[i]) != 0) fail_msg("%s on %s: %s, not %s", cells[0], header[i], is, cells[i]);
      }
    }
  }
  assert_true(executed > 300);
  free(page);
  assert_int_equal(mem.used_bytes, 0);
}

static void test_dates(void **state)
{
  static const struct {
    const char *text;
    int64_t us;
  } dates[] = {
      {"1970-01-01", 0},
      {"1969-12-31T23:59:59.999999Z", -1},
      {"2000-02-29T00:00:00Z", 951782400000000},
      {"2020-01-31T12:00:00.1234567Z", 1580472000123456},
      {"2020-01-31t12:00z", 1580472000000000},
      {"2020-01-31 12:00:00", 1580472000000000},
      {"2020-01-31T12:00:00-0130", 1580477400000000},
      {"2020-01-31T12:00:00+01", 1580468400000000},
      {"2016-12-31T23:59:60Z", 1483228800000000},
      {"0000-01-01", -62167219200000000},
      {"9999-12-31", 253402214400000000},
  };
  static const char *const none[] = {"2020-1-31",
                                     "2020-01-32",
                                     "2019-02-29",
                                     "1900-02-29",
                                     "2020-01-31T",
                                     "2020-01-31T12",
                                     "2020-01-31T12:60",
                                     "2020-01-31T12:00:61",
                                     "2020-13-01",
                                     "2020-01-31T12:00:00.Z",
                                     "2020-01-31T12:00:00+24:00",
                                     "",
                                     "2020-01-31x",
                                     "2020-01-31T12:00:00Zx",
                                     "20200131",
                                     "2020-00-10"};
  (void)state;
  for (size_t i = 0; i < AII_COUNT(dates); i++) {
    int64_t us = 1;
    if (!aii_time_parse(dates[i].text, strlen(dates[i].text), &us) || us != dates[i].us) {
      fail_msg("%s gives %lld", dates[i].text, (long long)us);
    }
  }
  for (size_t i = 0; i < AII_COUNT(none); i++) {
    int64_t us;
    if (aii_time_parse(none[i], strlen(none[i]), &us)) fail_msg("'%s' is a date", none[i]);
  }
}

/* A condition whose steps are used up does not tell, and says so. */
static void test_steps(void **state)
{
  aii_filter *filter;
  aii_keys keys;
  aii_buf doc;
  uint64_t steps = 1000, few = 10;
  (void)state;
  aii_keys_init(&keys, &mem);
  aii_buf_init(&doc, &mem, 0);
  json_t *payload = json_pack("{s:[i,i,i,i,i,i,i,i,i,i,i,i]}", "a", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
  assert_int_equal(aii_filter_compile(&mem, "{\"a\":12}", &filter, &err), AIINFRA_OK);
  assert_true(aii_filter_bind(filter, &keys, true) && aii_doc_pack(&keys, true, payload, &doc));
  const aii_cell *cells = (const aii_cell *)(void *)doc.data;
  assert_true(aii_filter_passes(filter, 1, cells, &steps));
  assert_true(steps > 0 && steps < 1000);
  assert_false(aii_filter_passes(filter, 1, cells, &few));
  assert_int_equal(few, 0);
  json_decref(payload);
  aii_filter_free(filter);
  aii_buf_free(&doc);
  aii_keys_free(&keys);
  assert_int_equal(mem.used_bytes, 0);
}

/* Filters may come from strangers: neither depth nor size is free. */
static void test_bounds(void **state)
{
  enum { N = 5000 };
  static char deep[2 * 6 * N], wide[32 * N];
  aii_filter *filter;
  size_t n = 0;
  (void)state;
  for (int i = 0; i < N; i++) n += (size_t)sprintf(deep + n, "{\"a\":");
  deep[n] = '\0';
  assert_int_equal(aii_filter_compile(&mem, deep, &filter, &err), AIINFRA_EINVAL);
  n = (size_t)sprintf(wide, "{\"must\":[{}");
  for (int i = 0; i < N; i++) n += (size_t)sprintf(wide + n, ",{\"a\":%d}", i);
  sprintf(wide + n, "]}");
  assert_int_equal(aii_filter_compile(&mem, wide, &filter, &err), AIINFRA_EINVAL);
  assert_int_equal(mem.used_bytes, 0);
}

static void test_no_payload(void **state)
{
  aii_filter *filter;
  bool passes;
  (void)state;
  assert_int_equal(aii_filter_compile(&mem, "{\"a\":{\"$ne\":1}}", &filter, &err), AIINFRA_OK);
  assert_true(aii_filter_test(filter, 1, NULL, &passes) && passes);
  aii_filter_free(filter);
  assert_int_equal(aii_filter_compile(&mem, "{\"a\":1}", &filter, &err), AIINFRA_OK);
  assert_true(aii_filter_test(filter, 1, NULL, &passes) && !passes);
  aii_filter_free(filter);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_documented_tables),
      cmocka_unit_test(test_dates),
      cmocka_unit_test(test_steps),
      cmocka_unit_test(test_table),
      cmocka_unit_test(test_wrong),
      cmocka_unit_test(test_bounds),
      cmocka_unit_test(test_no_payload),
  };
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
