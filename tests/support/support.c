/* support.c - paths, temporary folder, skipping and random numbers for tests. See support.h. */
#include "tests/support/support.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING 16
#define PATH_BYTES 1024

static char tmp_dir[PATH_BYTES];

static const char *join(const char *dir, const char *relative)
{
  static char ring[RING][PATH_BYTES];
  static unsigned next;
  char *path = ring[next++ % RING];
  if (snprintf(path, PATH_BYTES, "%s/%s", dir, relative) >= PATH_BYTES) {
    fprintf(stderr, "support.c: path too long: %s\n", relative);
    exit(1);
  }
  return path;
}

static const char *env_or(const char *name, const char *fallback)
{
  const char *value = getenv(name);
  return value != NULL && value[0] != '\0' ? value : fallback;
}

const char *test_path(const char *relative)
{
  return join(env_or("AIINFRA_ROOT", "."), relative);
}

const char *test_built(const char *relative)
{
  return join(env_or("AIINFRA_BUILD", "build"), relative);
}

const char *test_data(const char *relative)
{
  const char *path = join(env_or("AIINFRA_SHARED_DATA", test_path("../shared/data")), relative);
  return access(path, R_OK) == 0 ? path : NULL;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  (void)st, (void)type, (void)ftw;
  return remove(path);
}

static void remove_tmp_dir(void)
{
  nftw(tmp_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_tmp_dir(void)
{
  if (tmp_dir[0] == '\0') {
    snprintf(tmp_dir, sizeof tmp_dir, "%s/aiinfra-test-XXXXXX", env_or("TMPDIR", "/tmp"));
    if (mkdtemp(tmp_dir) == NULL) {
      perror(tmp_dir);
      exit(1);
    }
    atexit(remove_tmp_dir);
  }
  return tmp_dir;
}

const char *test_tmp(const char *name)
{
  return join(test_tmp_dir(), name);
}

const char *test_db(const char *name)
{
  static char uris[RING][4 * PATH_BYTES];
  static unsigned next, fresh;
  const char *server = getenv("AIINFRA_TEST_POSTGRES");
  const char *plugin = test_built("libaiinfra-postgres.so"); /* not beside a test program */
  bool memory = strcmp(name, ":memory:") == 0;
  if (server == NULL || server[0] == '\0') return memory ? name : test_tmp(name);
  char *uri = uris[next++ % RING];
  fresh++;
  snprintf(uri, sizeof uris[0], "%s&sync_ms=0&plugin=%s&schema=t%ld_%s&replica=%s/copy%u.db", server, plugin,
           (long)getpid(), name, test_tmp_dir(), fresh);
  if (memory)
    snprintf(uri, sizeof uris[0], "%s&sync_ms=0&plugin=%s&schema=t%ld_%u&replica=memory", server, plugin,
             (long)getpid(), fresh);
  return uri;
}

char *test_read_file(const char *path, size_t *size)
{
  FILE *file = path != NULL ? fopen(path, "rb") : NULL;
  char *bytes = NULL;
  long length;
  if (file == NULL) return NULL;
  if (fseek(file, 0, SEEK_END) == 0 && (length = ftell(file)) >= 0 && fseek(file, 0, SEEK_SET) == 0 &&
      (bytes = malloc((size_t)length + 1)) != NULL) {
    if (fread(bytes, 1, (size_t)length, file) == (size_t)length) {
      bytes[length] = '\0';
      if (size != NULL) *size = (size_t)length;
    } else {
      free(bytes);
      bytes = NULL;
    }
  }
  fclose(file);
  return bytes;
}

int test_write_file(const char *path, const void *bytes, size_t size)
{
  FILE *file = fopen(path, "wb");
  int bad;
  if (file == NULL) return -1;
  bad = fwrite(bytes, 1, size, file) != size;
  return fclose(file) != 0 || bad ? -1 : 0;
}

static void say_skipped(const char *format, va_list args)
{
  printf("skipped: ");
  vprintf(format, args);
  printf("\n");
  fflush(stdout);
}

void test_say_skipped(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  say_skipped(format, args);
  va_end(args);
}

int test_skip_all(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  say_skipped(format, args);
  va_end(args);
  return TEST_SKIPPED;
}

unsigned long long test_seed(void)
{
  return strtoull(env_or("AIINFRA_SEED", "1"), NULL, 10);
}

/* splitmix64, Steele, Lea and Flood 2014. */
unsigned long long test_random(unsigned long long *state)
{
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
