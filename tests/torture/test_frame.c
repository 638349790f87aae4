/* test_frame.c - the frame itself: it reaches every source of faults, and sees what it promises to see.
 *
 * The scenarios that misbehave on purpose print their violations; the test is that they were found.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/support.h"
#include "tests/torture/torture.h"

typedef struct thing {
  void *part;
} thing;

static aiinfra_status thing_create(thing **out)
{
  const aiinfra_allocator *a = torture_allocator();
  thing *t = a->alloc(a->user, sizeof *t);
  *out = NULL;
  if (t == NULL) return AIINFRA_ENOMEM;
  t->part = a->alloc(a->user, 100);
  if (t->part == NULL) {
    a->release(a->user, t);
    return AIINFRA_ENOMEM;
  }
  *out = t;
  return AIINFRA_OK;
}

static void thing_free(thing *t)
{
  const aiinfra_allocator *a = torture_allocator();
  if (t == NULL) return;
  a->release(a->user, t->part);
  a->release(a->user, t);
}

static aiinfra_status well_behaved(void *ctx)
{
  thing *t;
  aiinfra_status rc = torture_made(thing_create(&t), &t, "thing_create");
  (void)ctx;
  thing_free(t);
  return rc;
}

static void *leaked[64]; /* kept here, so that leak checkers are content in the end */
static size_t n_leaked;

static aiinfra_status leaks_on_failure(void *ctx)
{
  const aiinfra_allocator *a = torture_allocator();
  void *first = a->alloc(a->user, 10), *second = a->alloc(a->user, 10);
  (void)ctx;
  if (first == NULL || second == NULL) { /* forgets the other one */
    leaked[n_leaked++] = first != NULL ? first : second;
    return AIINFRA_ENOMEM;
  }
  a->release(a->user, first);
  a->release(a->user, second);
  return AIINFRA_OK;
}

static aiinfra_status wrong_status(void *ctx)
{
  thing *t;
  (void)ctx;
  if (thing_create(&t) != AIINFRA_OK) return AIINFRA_EFORMAT;
  thing_free(t);
  return AIINFRA_OK;
}

static aiinfra_status leaks_descriptor(void *ctx)
{
  const aiinfra_allocator *a = torture_allocator();
  int fd = open("/dev/null", O_RDONLY);
  void *ptr = a->alloc(a->user, 10);
  (void)ctx;
  if (ptr == NULL) return AIINFRA_ENOMEM;
  a->release(a->user, ptr);
  close(fd);
  return AIINFRA_OK;
}

static aiinfra_status parse_json(void *ctx)
{
  json_error_t error;
  json_t *json = json_loads("{\"a\": [1, 2, \"three\"]}", 0, &error);
  (void)ctx;
  if (json == NULL) return AIINFRA_ENOMEM;
  json_decref(json);
  return AIINFRA_OK;
}

static aiinfra_status write_database(void *ctx)
{
  const char *path = ctx;
  sqlite3 *db = NULL;
  int code = sqlite3_open(path, &db);
  torture_pause("pragmas");
  if (code == SQLITE_OK) sqlite3_exec(db, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
  torture_resume();
  if (code == SQLITE_OK) {
    code = sqlite3_exec(db, "CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES(1)", NULL, NULL, NULL);
  }
  sqlite3_close(db);
  unlink(path);
  return code == SQLITE_OK                                    ? AIINFRA_OK
         : code == SQLITE_NOMEM || code == SQLITE_IOERR_NOMEM ? AIINFRA_ENOMEM
                                                              : AIINFRA_EIO;
}

static void finds_nothing_wrong_with_good_code(void **state)
{
  (void)state;
  assert_int_equal(torture_run("frame.good", well_behaved, NULL, NULL), 0);
}

static void finds_leaked_blocks(void **state)
{
  (void)state;
  assert_true(torture_run("frame.leak, on purpose", leaks_on_failure, NULL, NULL) > 0);
  while (n_leaked > 0) {
    void *ptr = leaked[--n_leaked];
    if (ptr != NULL) torture_allocator()->release(NULL, ptr);
  }
}

static void finds_leaked_descriptors(void **state)
{
  (void)state;
  assert_true(torture_run("frame.descriptor, on purpose", leaks_descriptor, NULL, NULL) > 0);
}

static void finds_wrong_statuses(void **state)
{
  static const aiinfra_status also[] = {AIINFRA_EFORMAT};
  const torture_opts lenient = {.allowed = also, .n_allowed = 1};
  (void)state;
  assert_true(torture_run("frame.status, on purpose", wrong_status, NULL, NULL) > 0);
  assert_int_equal(torture_run("frame.status", wrong_status, NULL, &lenient), 0);
}

static void reaches_into_libraries(void **state)
{
  const torture_opts io = {.sources = TORTURE_MALLOC | TORTURE_IO};
  (void)state;
  assert_int_equal(torture_run("frame.jansson", parse_json, NULL, NULL), 0);
  assert_int_equal(torture_run("frame.sqlite", write_database, (void *)test_tmp("frame.db"), &io), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(finds_nothing_wrong_with_good_code),
      cmocka_unit_test(finds_leaked_blocks),
      cmocka_unit_test(finds_leaked_descriptors),
      cmocka_unit_test(finds_wrong_statuses),
      cmocka_unit_test(reaches_into_libraries),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
