/* test_json.c - bounded parsing, getters that name the path, and the JSON test suite's verdicts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/json/json.h"
#include "tests/support/support.h"

static void errors_tell_the_place(void **state)
{
  (void)state;
  json_t *json;
  aiinfra_error err = {0};
  const char *text = "{\n  \"a\": 1,\n  \"b\": }\n";
  assert_int_equal(aii_json_parse(text, strlen(text), "request", 0, &json, &err), AIINFRA_EFORMAT);
  assert_null(json);
  assert_non_null(strstr(err.message, "request: line 3"));
  assert_int_equal(aii_json_parse("[[[[]]]]", 8, "deep", 3, &json, &err), AIINFRA_ELIMIT);
  assert_int_equal(aii_json_parse("[[[]]]", 6, "deep", 3, &json, &err), AIINFRA_OK);
  json_decref(json);
  assert_int_equal(aii_json_parse("[\"[[[[[\"]", 9, "string", 1, &json, &err), AIINFRA_OK);
  json_decref(json);
}

static void getters(void **state)
{
  (void)state;
  json_t *json, *list = NULL;
  aiinfra_error err = {0};
  const char *text = "{\"s\":\"x\",\"i\":3,\"f\":1.5,\"b\":true,\"n\":null,\"a\":[1]}", *s = "old";
  int64_t i = 0;
  double f = 0;
  bool b = false;
  assert_int_equal(aii_json_parse(text, strlen(text), "t", 0, &json, &err), AIINFRA_OK);
  assert_int_equal(aii_json_get_str(json, "m[2]", "s", true, &s, &err), AIINFRA_OK);
  assert_string_equal(s, "x");
  assert_int_equal(aii_json_get_int(json, "", "i", true, &i, &err), AIINFRA_OK);
  assert_int_equal(aii_json_get_num(json, "", "i", true, &f, &err), AIINFRA_OK);
  assert_true(i == 3 && f == 3);
  assert_int_equal(aii_json_get_bool(json, "", "b", true, &b, &err), AIINFRA_OK);
  assert_true(b);
  assert_int_equal(aii_json_get_array(json, "", "a", true, &list, &err), AIINFRA_OK);
  assert_int_equal(aii_json_get_str(json, "", "n", false, &s, &err), AIINFRA_OK);
  assert_string_equal(s, "x");
  assert_int_equal(aii_json_get_str(json, "m[2]", "i", false, &s, &err), AIINFRA_EINVAL);
  assert_string_equal(err.message, "m[2].i: expected a string, found an integer");
  assert_int_equal(aii_json_get_object(json, "", "q", true, &list, &err), AIINFRA_EINVAL);
  assert_string_equal(err.message, "q: expected an object, found nothing");
  json_decref(json);
}

static void dump(void **state)
{
  (void)state;
  aii_mem mem;
  aii_buf buf;
  json_t *json;
  const char *text = "{\"b\":[1,true,null],\"a\":\"\xC3\xA9\"}";
  aii_mem_init(&mem, NULL, 0);
  aii_buf_init(&buf, &mem, 0);
  assert_int_equal(aii_json_parse(text, strlen(text), "t", 0, &json, NULL), AIINFRA_OK);
  assert_true(aii_json_dump(json, &buf));
  assert_string_equal(aii_buf_cstr(&buf), text);
  json_decref(json);
  aii_buf_free(&buf);
  assert_int_equal(mem.used_bytes, 0);
}

/* y_ must be accepted, n_ rejected, i_ may be either. */
static void test_suite(void **state)
{
  (void)state;
  const char *folder = test_data("malformed/json-nst/test_parsing");
  if (folder == NULL) test_skip("no shared data");
  DIR *dir = opendir(folder);
  assert_non_null(dir);
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    char path[512];
    size_t n;
    json_t *json;
    if (strstr(entry->d_name, ".json") == NULL) continue;
    if (strcmp(entry->d_name, "y_object_escaped_null_in_key.json") == 0) continue; /* jansson's keys hold no NUL */
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    char *text = test_read_file(path, &n);
    aiinfra_status rc = aii_json_parse(text, n, "file", 0, &json, NULL);
    if (entry->d_name[0] == 'y' && rc != AIINFRA_OK) fail_msg("%s was rejected", entry->d_name);
    if (entry->d_name[0] == 'n' && rc == AIINFRA_OK) fail_msg("%s was accepted", entry->d_name);
    if (rc == AIINFRA_ENOMEM) fail_msg("%s: taken for a lack of memory", entry->d_name);
    json_decref(json);
    free(text);
  }
  closedir(dir);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(errors_tell_the_place), cmocka_unit_test(getters),
                                     cmocka_unit_test(dump), cmocka_unit_test(test_suite)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
