/* support.h - the little that every test needs: where data lies, a folder to write in, a reason to skip.
 *
 * The runner sets AIINFRA_ROOT (the source tree), AIINFRA_BUILD (what is tested) and, where it exists,
 * AIINFRA_SHARED_DATA (large reference data that does not travel with the source). A test that needs what is
 * not there skips itself and says why; the runner prints the reasons.
 *
 * Paths returned stay valid until the 16th later call. Threads: the test's main thread.
 */
#ifndef AIINFRA_TESTS_SUPPORT_H
#define AIINFRA_TESTS_SUPPORT_H

#include <stddef.h>

/* Exit code of a program that skipped all it had: `return test_skip_all("needs AVX-512");` from main. */
#define TEST_SKIPPED 77

/* Path of a file of the source tree, such as "tests/data/tiny.gguf" or "examples/nano/nano.gguf". */
const char *test_path(const char *relative);

/* Path of a file of the build, such as "aiinfra" or "libaiinfra.so". */
const char *test_built(const char *relative);

/* Path of a file of the shared reference data, or NULL when it is not on this machine. */
const char *test_data(const char *relative);

/* A fresh folder of this process, removed when it exits. */
const char *test_tmp_dir(void);

/* Path of a file in that folder. */
const char *test_tmp(const char *name);

/* Where a test's database lies: that file of the folder, or ":memory:"; where AIINFRA_TEST_POSTGRES is the URI of a
 * server's database, a schema in there, of this process and name, with a fresh local copy. */
const char *test_db(const char *name);

/* The whole file with a NUL behind it, to be freed by the caller; NULL when it cannot be read. *size may be NULL. */
char *test_read_file(const char *path, size_t *size);

/* Writes a file; 0 on success. */
int test_write_file(const char *path, const void *bytes, size_t size);

/* Prints "skipped: reason" and leaves the current cmocka test as skipped. */
#define test_skip(...)             \
  do {                             \
    test_say_skipped(__VA_ARGS__); \
    skip();                        \
  } while (0)

/* Prints "skipped: reason" and returns TEST_SKIPPED. */
int test_skip_all(const char *format, ...) __attribute__((format(printf, 1, 2)));
void test_say_skipped(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A reproducible stream of numbers. The seed is AIINFRA_SEED if set, else 1; print it when a test fails. */
unsigned long long test_seed(void);
unsigned long long test_random(unsigned long long *state);

#endif
