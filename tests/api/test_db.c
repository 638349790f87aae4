/* test_db.c - databases as a host uses them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "aiinfra/db.h"
#include "aiinfra/memory.h"
#include "support/support.h"

static aiinfra_runtime *rt;
static aiinfra_error err;

static void test_arguments(void **state)
{
  aiinfra_db *db = (aiinfra_db *)&err;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  char *json;
  (void)state;
  assert_int_equal(aiinfra_db_open(NULL, ":memory:", NULL, &db, &err), AIINFRA_EINVAL);
  assert_null(db);
  assert_int_equal(aiinfra_db_open(rt, NULL, NULL, &db, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_db_open(rt, ":memory:", NULL, NULL, NULL), AIINFRA_EINVAL);
  opts.read_only = 2;
  assert_int_equal(aiinfra_db_open(rt, ":memory:", &opts, &db, &err), AIINFRA_EINVAL);
  opts.read_only = 0;
  opts.struct_size = 3;
  assert_int_equal(aiinfra_db_open(rt, ":memory:", &opts, &db, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_db_check(NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_db_describe(NULL, &json, &err), AIINFRA_EINVAL);
  assert_null(json);
  aiinfra_db_free(NULL);
}

static void test_life(void **state)
{
  const char *path = test_tmp("life.db");
  aiinfra_db *db;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  aiinfra_memory *memory;
  char *json;
  (void)state;
  opts.must_exist = 1;
  assert_int_equal(aiinfra_db_open(rt, path, &opts, &db, &err), AIINFRA_ENOENT);
  assert_non_null(strstr(err.message, path));
  opts.must_exist = 0;
  opts.synchronous = -1;
  if (aiinfra_db_open(rt, path, &opts, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(aiinfra_memory_open(db, NULL, &memory, &err), AIINFRA_OK);
  aiinfra_db_free(db); /* the memory keeps it */
  assert_int_equal(aiinfra_memory_remember(memory, "The sky is blue.", NULL, NULL, &err), AIINFRA_OK);
  aiinfra_memory_free(memory);
  opts.synchronous = 0;
  opts.read_only = 1;
  assert_int_equal(aiinfra_db_open(rt, path, &opts, &db, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_db_describe(db, &json, &err), AIINFRA_OK);
  assert_non_null(strstr(json, "\"memories\":1"));
  assert_non_null(strstr(json, "\"version\":"));
  aiinfra_string_free(json);
  assert_int_equal(aiinfra_memory_open(db, NULL, &memory, &err), AIINFRA_OK); /* reading works */
  assert_int_equal(aiinfra_memory_recall(memory, "What colour is the sky?", NULL, &json, &err), AIINFRA_OK);
  assert_non_null(strstr(json, "The sky is blue."));
  aiinfra_string_free(json);
  assert_int_equal(aiinfra_memory_remember(memory, "No.", NULL, NULL, &err), AIINFRA_EIO);
  assert_non_null(strstr(err.message, "read_only"));
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
  aiinfra_runtime_free(rt);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_arguments), cmocka_unit_test(test_life)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
