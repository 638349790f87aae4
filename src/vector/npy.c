/* npy.c - the header of NumPy's files: what is behind it, as the text of a Python dictionary.
 *
 *   "\x93NUMPY", major, minor, the length of the text (two bytes in version 1, else four), then the text, such as
 *   {'descr': '<f4', 'fortran_order': False, 'shape': (10, 3), }, filled up with blanks
 *
 * The text is read by what it may hold and nothing else: three keys, in any order. Source of the format: NumPy's
 * documentation of numpy.lib.format. Arrays of floats (f4, f2) and bytes (i1, u1), by rows, of two dimensions are taken.
 */
#include "src/vector/vecfile.h"

enum { MAGIC_BYTES = 8, MAX_HEADER = 1 << 16, OWN_HEADER = 128 };

typedef struct reader {
  const char *at, *end;
  aii_vecfile *file;
  bool descr, order, shape; /* were there */
  aiinfra_error *err;
} reader;

static aiinfra_status refuse(const reader *r, const char *problem, const char *cure)
{
  return aii_fail(r->err, AIINFRA_ENOTSUP, "it holds %s; save it as %s", problem, cure);
}

static aiinfra_status malformed(const reader *r)
{
  return aii_fail(r->err, AIINFRA_EFORMAT, "its header is not one of NumPy's; save the array anew with numpy.save()");
}

static bool take(reader *r, const char *word)
{
  size_t n = strlen(word);
  while (r->at < r->end && (*r->at == ' ' || *r->at == '\n')) r->at++;
  if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0) return false;
  r->at += n;
  return true;
}

/* A text in quotes. */
static bool take_text(reader *r, const char **s, size_t *n)
{
  char quote = take(r, "'") ? '\'' : '"';
  if (quote == '"' && !take(r, "\"")) return false;
  const char *end = memchr(r->at, quote, (size_t)(r->end - r->at));
  if (end == NULL) return false;
  *s = r->at;
  *n = (size_t)(end - r->at);
  r->at = end + 1;
  return true;
}

static bool is(const char *s, size_t n, const char *word)
{
  return n == strlen(word) && memcmp(s, word, n) == 0;
}

static aiinfra_status read_descr(reader *r)
{
  static const char *const names[] = {"<f4", "<f2", "|i1", "|u1"};
  const char *s;
  size_t n;
  if (take(r, "[")) return refuse(r, "records", "an array of one type, such as array['vector'].astype('<f4')");
  if (!take_text(r, &s, &n)) return malformed(r);
  for (size_t i = 0; i < AII_COUNT(names); i++) {
    if (!is(s, n, names[i])) continue;
    r->file->element = (aii_element)i;
    r->descr = true;
    return AIINFRA_OK;
  }
  return refuse(r, "elements of another type than f4, f2, i1 and u1 in little endian", "array.astype('<f4')");
}

static aiinfra_status read_order(reader *r)
{
  if (take(r, "True")) return refuse(r, "its array by columns", "numpy.ascontiguousarray(array)");
  r->order = take(r, "False");
  return r->order ? AIINFRA_OK : malformed(r);
}

static bool take_number(reader *r, uint64_t *value)
{
  (void)take(r, ""); /* blanks */
  const char *start = r->at;
  for (*value = 0; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
    if (*value > (UINT64_MAX - 9) / 10) return false;
    *value = *value * 10 + (uint64_t)(*r->at - '0');
  }
  return r->at > start;
}

static aiinfra_status read_shape(reader *r)
{
  uint64_t sizes[2] = {0}, more;
  int n = 0;
  if (!take(r, "(")) return malformed(r);
  while (!take(r, ")")) {
    if (!take_number(r, n < 2 ? &sizes[n] : &more)) return malformed(r);
    n = AII_MIN(n + 1, 3);
    if (!take(r, ",") && !take(r, ")")) return malformed(r);
    if (r->at[-1] == ')') break;
  }
  if (n != 2) return refuse(r, "an array that is not of two dimensions", "array.reshape(rows, dims)");
  if (sizes[1] > AII_FILE_MAX_DIMS) sizes[1] = AII_FILE_MAX_DIMS + 1; /* refused by who asked */
  r->file->n_rows = sizes[0];
  r->file->dims = (uint32_t)sizes[1];
  r->shape = true;
  return AIINFRA_OK;
}

static aiinfra_status read_dictionary(reader *r)
{
  aiinfra_status rc = AIINFRA_OK;
  if (!take(r, "{")) return malformed(r);
  while (!take(r, "}")) {
    const char *key;
    size_t n;
    if (!take_text(r, &key, &n) || !take(r, ":")) return malformed(r);
    if (is(key, n, "descr") && !r->descr) rc = read_descr(r);
    else if (is(key, n, "fortran_order") && !r->order) rc = read_order(r);
    else if (is(key, n, "shape") && !r->shape) rc = read_shape(r);
    else rc = malformed(r);
    if (rc != AIINFRA_OK) return rc;
    if (!take(r, ",") && !take(r, "}")) return malformed(r);
    if (r->at[-1] == '}') break;
  }
  while (take(r, " ")) continue;
  return r->descr && r->order && r->shape && r->at == r->end ? AIINFRA_OK : malformed(r);
}

aiinfra_status aii_npy_open(aii_vecfile *file, aiinfra_error *err)
{
  static const char magic[] = "\x93NUMPY";
  size_t n, length;
  reader r = {.file = file, .err = err};
  aiinfra_status rc = aii_vecfile_fill(file, MAGIC_BYTES + 4, &n, err);
  if (rc != AIINFRA_OK) return rc;
  const uint8_t *p = file->buffer;
  if (n < MAGIC_BYTES + 4 || memcmp(p, magic, sizeof magic - 1) != 0 || p[6] < 1 || p[6] > 3) return malformed(&r);
  size_t begin = MAGIC_BYTES + (p[6] == 1 ? 2 : 4);
  length = (size_t)p[8] | (size_t)p[9] << 8;
  if (p[6] > 1) length |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
  if (length > MAX_HEADER) return malformed(&r);
  rc = aii_vecfile_fill(file, begin + length, &n, err);
  if (rc != AIINFRA_OK) return rc;
  if (n < begin + length)
    return aii_fail(err, AIINFRA_EFORMAT, "it ends within its header of %zu bytes", begin + length);
  r.at = (const char *)file->buffer + begin;
  r.end = r.at + length;
  rc = read_dictionary(&r);
  file->at = begin + length;
  return rc;
}

void aii_npy_header(aii_buf *out, uint64_t n_rows, uint32_t dims)
{
  size_t begin = out->len;
  aii_buf_add(out, "\x93NUMPY\x01\x00", MAGIC_BYTES);
  aii_buf_add(out, (const uint8_t[]){(OWN_HEADER - 10) & 0xFF, (OWN_HEADER - 10) >> 8}, 2);
  aii_buf_fmt(out, "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %u), }", (unsigned long long)n_rows, dims);
  while (!out->failed && out->len - begin < OWN_HEADER - 1) aii_buf_char(out, ' ');
  aii_buf_char(out, '\n');
}
