/* test_quantize.c - every stored type: decoding to the bit, encoding to the bit or to a bound of its error.
 *
 * As a tool, for tests/reference/quants.py and for people:
 *   quantize encode TYPE COLUMNS [IMPORTANCE-FILE]   floats on stdin, blocks on stdout
 *   quantize decode TYPE COLUMNS                     the reverse
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/backend/backend.h"
#include "tests/support/support.h"

/* ---- the tool ---- */

static void *read_all(FILE *file, size_t *n)
{
  char *data = NULL;
  size_t cap = 0;
  for (*n = 0;;) {
    if (*n == cap) data = realloc(data, cap = cap * 2 + 65536);
    size_t got = fread(data + *n, 1, cap - *n, file);
    if (got == 0) return data;
    *n += got;
  }
}

static const aii_dtype_traits *find_type(const char *name, aii_dtype *type)
{
  for (uint32_t t = 0; t < 64; t++) {
    const aii_dtype_traits *info = aii_dtype_info(t);
    if (info != NULL && strcmp(info->name, name) == 0) {
      *type = (aii_dtype)t;
      return info;
    }
  }
  return NULL;
}

static int tool(int argc, char **argv)
{
  aii_dtype type;
  aiinfra_error err;
  const aii_dtype_traits *info = argc >= 4 ? find_type(argv[2], &type) : NULL;
  size_t n, n_importance = 0, columns = info != NULL ? strtoul(argv[3], NULL, 10) : 0;
  if (columns == 0) return 2;
  size_t row_bytes = columns / info->block * info->block_bytes;
  float *importance = NULL;
  FILE *file = argc > 4 ? fopen(argv[4], "rb") : NULL;
  if (file != NULL) importance = read_all(file, &n_importance);
  void *in = read_all(stdin, &n), *out;
  aiinfra_status rc;
  if (strcmp(argv[1], "encode") == 0) {
    size_t rows = n / (columns * 4);
    out = malloc(n = rows * row_bytes);
    rc = aii_quantize_rows(type, in, rows, columns, importance, out, &err);
  } else {
    size_t rows = n / row_bytes;
    out = malloc(n = rows * columns * 4);
    rc = aii_dequantize_rows(type, in, rows, columns, out, &err);
  }
  if (rc != AIINFRA_OK) fprintf(stderr, "%s\n", err.message);
  else fwrite(out, 1, n, stdout);
  free(in);
  free(out);
  free(importance);
  return rc == AIINFRA_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
  if (argc > 1) return tool(argc, argv);
  return 0;
}
