/* test_filter.c - the conformance table of filters: both languages, every operator, missing, null and empty. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "src/vector/vector.h"

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
    {"{\"must\":[{\"key\":\"lang\",\"match\":{\"except\":[\"en\"]}}]}", "123"},
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
      if (aii_filter_passes(filter, (int64_t)i, row)) passing[n++] = (char)('0' + i);
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
  (void)state;
  assert_int_equal(aii_filter_compile(&mem, "{\"a\":{\"$ne\":1}}", &filter, &err), AIINFRA_OK);
  assert_true(aii_filter_passes(filter, 1, NULL));
  aii_filter_free(filter);
  assert_int_equal(aii_filter_compile(&mem, "{\"a\":1}", &filter, &err), AIINFRA_OK);
  assert_false(aii_filter_passes(filter, 1, NULL));
  aii_filter_free(filter);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_table),
      cmocka_unit_test(test_wrong),
      cmocka_unit_test(test_bounds),
      cmocka_unit_test(test_no_payload),
  };
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
