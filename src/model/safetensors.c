/* safetensors.c - validates and reads the directory of a safetensors file.
 *
 * The format: the header's length as 8 bytes, the header as a JSON object {"NAME": {"dtype": "F32", "shape": [2, 3],
 * "data_offsets": [0, 24]}, ...} and perhaps "__metadata__" with texts only, then the data, which the tensors must cover
 * without a gap. The header is read by a scanner of its own, because its shape is known: nothing is copied, names stay
 * where they lie, and a name that appears twice is seen, which a general reader of JSON would hide. EFORMAT is what
 * contradicts itself or the file's size; ENOTSUP what is valid but unusual: escapes in names, more than eight dimensions.
 */
#include "src/model/safetensors.h"

enum { LENGTH_BYTES = 8, MAX_HEADER_BYTES = 100000000, MAX_NAME_BYTES = 4096 };

typedef struct scanner {
  aii_mem *mem;
  const char *at, *end, *begin;
  const uint8_t *data;
  uint64_t data_size;
  aii_safetensors *out;
  aiinfra_error *err;
} scanner;

/* ---- words of JSON ----------------------------------------------------------------------------------------------- */

static aiinfra_status bad(scanner *s, const char *what)
{
  return aii_fail(s->err, AIINFRA_EFORMAT, "the header is damaged at byte %zu: %s",
                  (size_t)(s->at - s->begin) + LENGTH_BYTES, what);
}

static void skip_space(scanner *s)
{
  while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r')) s->at++;
}

static bool take(scanner *s, char c)
{
  skip_space(s);
  if (s->at == s->end || *s->at != c) return false;
  s->at++;
  return true;
}

static aiinfra_status want(scanner *s, char c)
{
  char what[] = "'?' is missing";
  what[1] = c;
  return take(s, c) ? AIINFRA_OK : bad(s, what);
}

/* The text between quotes, as it stands; *escapes: it has some. */
static aiinfra_status take_text(scanner *s, aii_str *out, bool *escapes)
{
  *escapes = false;
  if (!take(s, '"')) return bad(s, "a text in quotes is missing");
  const char *start = s->at;
  for (; s->at < s->end && *s->at != '"'; s->at++) {
    if ((unsigned char)*s->at < 0x20) return bad(s, "a control character inside a text");
    if (*s->at != '\\') continue;
    *escapes = true;
    if (++s->at == s->end) break;
  }
  if (s->at >= s->end) return bad(s, "a text that does not end");
  *out = (aii_str){start, (size_t)(s->at++ - start)};
  return AIINFRA_OK;
}

static aiinfra_status take_plain(scanner *s, const char *what, aii_str *out)
{
  bool escapes;
  aiinfra_status rc = take_text(s, out, &escapes);
  if (rc == AIINFRA_OK && escapes) {
    rc = aii_fail(s->err, AIINFRA_ENOTSUP, "%s '%.*s' has escapes, which this version does not read", what,
                  AII_SHOW(*out));
  }
  return rc;
}

static aiinfra_status take_number(scanner *s, uint64_t *out)
{
  skip_space(s);
  const char *start = s->at;
  *out = 0;
  for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++) {
    if (__builtin_mul_overflow(*out, (uint64_t)10, out) ||
        __builtin_add_overflow(*out, (uint64_t)(*s->at - '0'), out)) {
      return bad(s, "a number beyond 64 bits");
    }
  }
  if (s->at == start || (*start == '0' && s->at - start > 1)) return bad(s, "a whole number is missing");
  if (s->at < s->end && (*s->at == '.' || *s->at == 'e' || *s->at == 'E')) return bad(s, "a number is not whole");
  return AIINFRA_OK;
}

/* "[1, 2, 3]" */
static aiinfra_status take_numbers(scanner *s, uint64_t *out, uint32_t most, uint32_t *n)
{
  *n = 0;
  aiinfra_status rc = want(s, '[');
  if (rc != AIINFRA_OK || take(s, ']')) return rc;
  for (;;) {
    if (*n == most) { return aii_fail(s->err, AIINFRA_ENOTSUP, "a list of more than %u numbers in the header", most); }
    rc = take_number(s, &out[(*n)++]);
    if (rc != AIINFRA_OK || take(s, ']')) return rc;
    rc = want(s, ',');
    if (rc != AIINFRA_OK) return rc;
  }
}

/* ---- a tensor ------------------------------------------------------------------------------------------------------ */

typedef struct dtype {
  const char *name;
  uint32_t bits;
  int32_t type;
} dtype;

static const dtype *find_dtype(aii_str name)
{
  static const dtype all[] = {
      {"F32", 32, AII_F32}, {"F16", 16, AII_F16}, {"BF16", 16, AII_BF16}, {"F64", 64, AII_F64}, {"I8", 8, AII_I8},
      {"I16", 16, AII_I16}, {"I32", 32, AII_I32}, {"I64", 64, AII_I64},   {"U8", 8, -1},        {"U16", 16, -1},
      {"U32", 32, -1},      {"U64", 64, -1},      {"BOOL", 8, -1},        {"F8_E4M3", 8, -1},   {"F8_E5M2", 8, -1},
      {"F8_E8M0", 8, -1},   {"C64", 64, -1},      {"F4", 4, -1},          {"F6_E2M3", 6, -1},   {"F6_E3M2", 6, -1},
  };
  for (size_t i = 0; i < AII_COUNT(all); i++) {
    if (strlen(all[i].name) == name.n && memcmp(all[i].name, name.p, name.n) == 0) return &all[i];
  }
  return NULL;
}

/* What the three members say must agree with each other and with the file's size. */
static aiinfra_status place(scanner *s, aii_st_tensor *t, const dtype *type, const uint64_t offsets[2])
{
  uint64_t bits = type->bits;
  for (uint32_t i = 0; i < t->n_dims; i++) {
    if (__builtin_mul_overflow(bits, t->shape[i], &bits)) {
      return aii_fail(s->err, AIINFRA_EFORMAT, "tensor '%.*s': its size overflows", AII_SHOW(t->name));
    }
  }
  if (offsets[0] > offsets[1] || offsets[1] > s->data_size) {
    return aii_fail(s->err, AIINFRA_EFORMAT,
                    "tensor '%.*s': bytes %llu to %llu lie outside the data of %llu bytes; the file is cut short: "
                    "download it again",
                    AII_SHOW(t->name), (unsigned long long)offsets[0], (unsigned long long)offsets[1],
                    (unsigned long long)s->data_size);
  }
  t->bytes = offsets[1] - offsets[0];
  if (bits % 8 != 0 || bits / 8 != t->bytes) {
    return aii_fail(s->err, AIINFRA_EFORMAT, "tensor '%.*s': its shape takes %llu bytes, its offsets give it %llu",
                    AII_SHOW(t->name), (unsigned long long)(bits / 8), (unsigned long long)t->bytes);
  }
  t->dtype = type->name;
  t->type = type->type;
  t->data = s->data + offsets[0];
  return AIINFRA_OK;
}

enum { GOT_DTYPE = 1, GOT_SHAPE = 2, GOT_OFFSETS = 4, GOT_ALL = 7 };

static bool is(aii_str s, const char *word)
{
  return s.n == strlen(word) && memcmp(s.p, word, s.n) == 0;
}

/* One member of a tensor's object; *got collects which there were. */
static aiinfra_status read_member(scanner *s, aii_st_tensor *t, const dtype **type, uint64_t offsets[2], unsigned *got)
{
  aii_str key, word;
  uint32_t n;
  aiinfra_status rc = take_plain(s, "a member", &key);
  if (rc == AIINFRA_OK) rc = want(s, ':');
  if (rc != AIINFRA_OK) return rc;
  unsigned now = is(key, "dtype")          ? GOT_DTYPE
                 : is(key, "shape")        ? GOT_SHAPE
                 : is(key, "data_offsets") ? GOT_OFFSETS
                                           : 0;
  if (now == 0 || (*got & now) != 0) return bad(s, now == 0 ? "an unknown member" : "a member appears twice");
  *got |= now;
  if (now == GOT_SHAPE) return take_numbers(s, t->shape, AII_ST_DIMS, &t->n_dims);
  if (now == GOT_OFFSETS) {
    rc = take_numbers(s, offsets, 2, &n);
    return rc == AIINFRA_OK && n != 2 ? bad(s, "two offsets are needed") : rc;
  }
  rc = take_plain(s, "a type", &word);
  if (rc != AIINFRA_OK) return rc;
  *type = find_dtype(word);
  if (*type != NULL) return AIINFRA_OK;
  return aii_fail(s->err, AIINFRA_ENOTSUP, "tensor '%.*s': type '%.*s' is not known to this version", AII_SHOW(t->name),
                  AII_SHOW(word));
}

static aiinfra_status read_tensor(scanner *s, aii_str name)
{
  aii_st_tensor t = {.name = name};
  const dtype *type = NULL;
  uint64_t offsets[2] = {0, 0};
  unsigned got = 0;
  uint32_t seen;
  aiinfra_status rc = want(s, '{');
  while (rc == AIINFRA_OK) {
    rc = read_member(s, &t, &type, offsets, &got);
    if (rc != AIINFRA_OK || take(s, '}')) break;
    rc = want(s, ',');
  }
  if (rc == AIINFRA_OK && got != GOT_ALL) rc = bad(s, "a tensor needs dtype, shape and data_offsets");
  if (rc == AIINFRA_OK) rc = place(s, &t, type, offsets);
  if (rc != AIINFRA_OK) return rc;
  aii_safetensors *out = s->out;
  if (aii_map_get(&out->names, name.p, name.n, &seen)) {
    return aii_fail(s->err, AIINFRA_EFORMAT, "tensor '%.*s' appears twice", AII_SHOW(name));
  }
  if (out->n == UINT32_MAX || !aii_grow(s->mem, &out->tensors, &out->cap, out->n + 1, sizeof t) ||
      !aii_map_set(&out->names, name.p, name.n, (uint32_t)out->n)) {
    return aii_fail(s->err, AIINFRA_ENOMEM, "no memory for an index of %zu tensors", out->n + 1);
  }
  out->tensors[out->n++] = t;
  return AIINFRA_OK;
}

/* ---- the header ------------------------------------------------------------------------------------------------------ */

static aiinfra_status skip_metadata(scanner *s)
{
  aii_str text;
  bool escapes;
  aiinfra_status rc = want(s, '{');
  if (rc != AIINFRA_OK || take(s, '}')) return rc;
  for (;;) {
    rc = take_text(s, &text, &escapes);
    if (rc == AIINFRA_OK) rc = want(s, ':');
    if (rc == AIINFRA_OK) rc = take_text(s, &text, &escapes);
    if (rc != AIINFRA_OK || take(s, '}')) return rc;
    rc = want(s, ',');
    if (rc != AIINFRA_OK) return rc;
  }
}

static aiinfra_status read_entry(scanner *s, bool *metadata)
{
  aii_str name;
  aiinfra_status rc = take_plain(s, "name", &name);
  if (rc == AIINFRA_OK) rc = want(s, ':');
  if (rc != AIINFRA_OK) return rc;
  if (is(name, "__metadata__")) {
    if (*metadata) return bad(s, "__metadata__ appears twice");
    *metadata = true;
    return skip_metadata(s);
  }
  if (name.n == 0 || name.n > MAX_NAME_BYTES) return bad(s, "a tensor's name is empty or too long");
  return read_tensor(s, name);
}

static aiinfra_status read_header(scanner *s)
{
  bool metadata = false;
  aiinfra_status rc = want(s, '{');
  bool more = rc == AIINFRA_OK && !take(s, '}');
  while (more && rc == AIINFRA_OK) {
    rc = read_entry(s, &metadata);
    if (rc != AIINFRA_OK || take(s, '}')) break;
    rc = want(s, ',');
  }
  if (rc != AIINFRA_OK) return rc;
  skip_space(s);
  return s->at == s->end ? rc : bad(s, "something behind the header's end");
}

/* ---- the data ---------------------------------------------------------------------------------------------------------- */

static bool starts_before(const void *a, const void *b)
{
  const aii_st_tensor *const *x = a, *const *y = b;
  return (*x)->data < (*y)->data || ((*x)->data == (*y)->data && (*x)->bytes < (*y)->bytes);
}

/* Every byte of the data belongs to one tensor. */
static aiinfra_status check_cover(scanner *s)
{
  aii_heap heap;
  aiinfra_status rc = AIINFRA_OK;
  const aii_st_tensor *t;
  const uint8_t *at = s->data;
  aii_heap_init(&heap, s->mem, sizeof t, starts_before);
  for (size_t i = 0; i < s->out->n && rc == AIINFRA_OK; i++) {
    t = &s->out->tensors[i];
    if (!aii_heap_push(&heap, &t)) rc = aii_fail(s->err, AIINFRA_ENOMEM, "no memory to sort %zu tensors", s->out->n);
  }
  while (rc == AIINFRA_OK && aii_heap_pop(&heap, &t)) {
    if (t->data != at) {
      rc = aii_fail(s->err, AIINFRA_EFORMAT, "tensor '%.*s' %s", AII_SHOW(t->name),
                    t->data < at ? "overlaps another one" : "begins behind a gap in the data");
    }
    at = t->data + t->bytes;
  }
  aii_heap_free(&heap);
  if (rc != AIINFRA_OK || at == s->data + s->data_size) return rc;
  return aii_fail(s->err, AIINFRA_EFORMAT, "%llu bytes at the end belong to no tensor",
                  (unsigned long long)(s->data + s->data_size - at));
}

static aiinfra_status check_front(const uint8_t *bytes, size_t size, uint64_t *header, aiinfra_error *err)
{
  if (size < LENGTH_BYTES) return aii_fail(err, AIINFRA_EFORMAT, "too short for a safetensors file: %zu bytes", size);
  *header = aii_load64(bytes);
  if (*header > MAX_HEADER_BYTES) {
    return aii_fail(err, AIINFRA_EFORMAT, "not a safetensors file: its header would have %llu bytes, more than %d",
                    (unsigned long long)*header, MAX_HEADER_BYTES);
  }
  if (*header > size - LENGTH_BYTES) {
    return aii_fail(err, AIINFRA_EFORMAT, "the file ends inside its header; it is cut short: download it again");
  }
  if (*header < 2 || bytes[LENGTH_BYTES] != '{') {
    return aii_fail(err, AIINFRA_EFORMAT, "not a safetensors file: its header is no JSON object");
  }
  if (!aii_utf8_valid((const char *)bytes + LENGTH_BYTES, (size_t)*header)) {
    return aii_fail(err, AIINFRA_EFORMAT, "not a safetensors file: its header is not UTF-8");
  }
  return AIINFRA_OK;
}

aiinfra_status aii_safetensors_parse(aii_mem *mem, const uint8_t *bytes, size_t size, aii_safetensors *out,
                                     aiinfra_error *err)
{
  uint64_t header = 0;
  *out = (aii_safetensors){.mem = mem};
  aii_map_init(&out->names, mem);
  aiinfra_status rc = check_front(bytes, size, &header, err);
  if (rc != AIINFRA_OK) return rc;
  scanner s = {.mem = mem, .out = out, .err = err};
  s.at = s.begin = (const char *)bytes + LENGTH_BYTES;
  s.end = s.at + header;
  s.data = bytes + LENGTH_BYTES + header;
  s.data_size = size - LENGTH_BYTES - header;
  rc = read_header(&s);
  if (rc == AIINFRA_OK) rc = check_cover(&s);
  if (rc != AIINFRA_OK) aii_safetensors_free(out);
  return rc;
}

void aii_safetensors_free(aii_safetensors *st)
{
  aii_map_free(&st->names);
  aii_del(st->mem, st->tensors, st->cap * sizeof st->tensors[0]);
  *st = (aii_safetensors){.mem = st->mem};
  aii_map_init(&st->names, st->mem);
}
