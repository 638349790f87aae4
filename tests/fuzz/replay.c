/* replay.c - main() for a fuzz target without libFuzzer: gives it every file of the folders and files named.
 *
 * A target is a file NAME_fuzz.c with LLVMFuzzerTestOneInput(). ctest replays corpus/NAME/ through this driver, so
 * that what a fuzzer once found stays fixed; `make fuzz` links the same target with libFuzzer instead. The empty
 * input and a few tiny ones are always tried, corpus or not.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static size_t inputs;

/* The bytes are copied to a block of exactly their size, so that a sanitizer sees the first byte read too far. */
static void try_bytes(const void *bytes, size_t size)
{
  uint8_t *exact = malloc(size);
  if (size > 0 && exact != NULL) memcpy(exact, bytes, size);
  if (size == 0 || exact != NULL) LLVMFuzzerTestOneInput(exact, size);
  free(exact);
  inputs++;
}

static void try_file(const char *path)
{
  FILE *file = fopen(path, "rb");
  uint8_t *bytes = NULL;
  size_t size = 0, room = 0, got;
  if (file == NULL) return;
  do {
    if (size == room) {
      uint8_t *more = realloc(bytes, room = room * 2 + 4096);
      if (more == NULL) break;
      bytes = more;
    }
    size += got = fread(bytes + size, 1, room - size, file);
  } while (got > 0);
  fclose(file);
  try_bytes(bytes, size);
  free(bytes);
}

static int try_path(const char *path)
{
  struct dirent **entries;
  struct stat st;
  int n;
  if (stat(path, &st) != 0) return 0; /* a target without a corpus yet */
  if (!S_ISDIR(st.st_mode)) {
    try_file(path);
    return 0;
  }
  n = scandir(path, &entries, NULL, alphasort);
  for (int i = 0; i < n; i++) {
    char inner[4096];
    snprintf(inner, sizeof inner, "%s/%s", path, entries[i]->d_name);
    if (entries[i]->d_name[0] != '.' && stat(inner, &st) == 0 && S_ISREG(st.st_mode)) try_file(inner);
    free(entries[i]);
  }
  if (n >= 0) free(entries);
  return n < 0;
}

int main(int argc, char **argv)
{
  static const char *const tiny[] = {"", "0", "{", "[", "\"", "\xff", "{}", "{{", "[[[[[[[["};
  int bad = 0;
  if (LLVMFuzzerInitialize != NULL) LLVMFuzzerInitialize(&argc, &argv);
  for (size_t i = 0; i < sizeof tiny / sizeof tiny[0]; i++) try_bytes(tiny[i], strlen(tiny[i]));
  for (int i = 1; i < argc; i++) bad |= try_path(argv[i]);
  printf("%zu inputs replayed\n", inputs);
  return bad;
}
