/* jsonl.c - rows as lines of JSON: {"id": 7, "vector": [0.1, ...], "vectors": {"image": [...]}, "text": "...", "payload":
 * {...}, "expires_ms": 0}, where jsonl_named.c has what is in "vectors".
 *
 * The happy path: a line is found in the buffer -> it is parsed -> its members are checked. "vector" must be there, the
 * others may be missing or null; a member of another name is a mistake. Lines of blanks are passed over. A line has at
 * most 64 MiB. Floats are written with nine digits, which gives every one of them back.
 */
#include <math.h>
#include <unistd.h>

#include "lib/json/json.h"
#include "src/vector/vecfile.h"

enum { STEP = 1 << 16 };

/* The next line that is not blank, without its end. */
static aiinfra_status next_line(aii_vecfile *file, const char **line, size_t *n, bool *there, aiinfra_error *err)
{
  *there = false;
  while (!*there) {
    size_t want = STEP, got = 0, seen = 0;
    const uint8_t *end = NULL;
    while (end == NULL) {
      aiinfra_status rc = aii_vecfile_fill(file, want, &got, err);
      if (rc != AIINFRA_OK) return rc;
      end = memchr(file->buffer + file->at + seen, '\n', got - seen);
      if (end != NULL || got < want) break;
      seen = got;
      if (want > AII_JSON_MAX_BYTES) {
        file->line++;
        return aii_fail(err, AIINFRA_ELIMIT, "it has more than %zu bytes", AII_JSON_MAX_BYTES);
      }
      want *= 2;
    }
    if (end == NULL && got == 0) return AIINFRA_OK;
    *line = (const char *)file->buffer + file->at;
    *n = end != NULL ? (size_t)(end - (file->buffer + file->at)) : got;
    file->at += *n + (end != NULL);
    file->line++;
    for (size_t i = 0; i < *n && !*there; i++) *there = (*line)[i] != ' ' && (*line)[i] != '\t' && (*line)[i] != '\r';
  }
  file->row++;
  return AIINFRA_OK;
}

static aiinfra_status check_members(const json_t *json, aiinfra_error *err)
{
  static const char *const known[] = {"id", "vector", "vectors", "text", "payload", "expires_ms"};
  const char *name;
  json_t *value;
  if (!json_is_object(json)) return aii_fail(err, AIINFRA_EINVAL, "expected an object, found %s", aii_json_type(json));
  json_object_foreach((json_t *)(uintptr_t)json, name, value)
  {
    size_t i = 0;
    while (i < AII_COUNT(known) && strcmp(name, known[i]) != 0) i++;
    if (i == AII_COUNT(known)) {
      return aii_fail(err, AIINFRA_EINVAL,
                      "'%.64s' is none of id, vector, vectors, text, payload and expires_ms; put it into payload",
                      name);
    }
  }
  return AIINFRA_OK;
}

static aiinfra_status parse_line(aii_vecfile *file, const char *line, size_t n, aiinfra_error *err)
{
  json_decref(file->json);
  file->json = NULL;
  aiinfra_status rc = aii_json_parse(line, n, "row", 0, &file->json, err);
  return rc == AIINFRA_OK ? check_members(file->json, err) : rc;
}

bool aii_jsonl_float(const json_t *number, float *out)
{
  double value = json_number_value(number);
  if (!json_is_number(number) || !(fabs(value) <= (double)3.4028234e38f)) return false;
  *out = (float)value;
  return true;
}

static aiinfra_status take_vector(aii_vecfile *file, const json_t *vector, aiinfra_error *err)
{
  if (json_array_size(vector) != file->dims) {
    return aii_fail(err, AIINFRA_EINVAL, "its vector has %zu elements, but that of the first row has %u",
                    json_array_size(vector), file->dims);
  }
  for (uint32_t i = 0; i < file->dims; i++) {
    if (!aii_jsonl_float(json_array_get(vector, i), &file->vector[i])) {
      return aii_fail(err, AIINFRA_EINVAL, "vector[%u]: expected a number that a float can hold", i);
    }
  }
  return AIINFRA_OK;
}

static aiinfra_status take_row(aii_vecfile *file, aii_vecrow *row, aiinfra_error *err)
{
  json_t *vector = NULL, *vectors = NULL, *payload = NULL;
  const json_t *id = json_object_get(file->json, "id");
  aiinfra_status rc = aii_json_get_array(file->json, "", "vector", true, &vector, err);
  if (rc == AIINFRA_OK) rc = take_vector(file, vector, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_object(file->json, "", "vectors", false, &vectors, err);
  if (rc == AIINFRA_OK && vectors != NULL) rc = aii_jsonl_named(file, vectors, row, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(file->json, "", "id", false, &row->id, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(file->json, "", "text", false, &row->text, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_object(file->json, "", "payload", false, &payload, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(file->json, "", "expires_ms", false, &row->expires_ms, err);
  if (rc != AIINFRA_OK) return rc;
  if (row->text != NULL && strlen(row->text) != json_string_length(json_object_get(file->json, "text"))) {
    return aii_fail(err, AIINFRA_EINVAL, "its text has a character of value 0, which no text may have");
  }
  if (row->expires_ms < 0) return aii_fail(err, AIINFRA_EINVAL, "expires_ms is before 1970");
  row->has_id = id != NULL && !json_is_null(id);
  row->vector = file->vector;
  if (payload == NULL) return AIINFRA_OK;
  aii_buf_clear(&file->payload);
  if (!aii_json_dump(payload, &file->payload)) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a payload");
  row->payload = file->payload.data;
  return AIINFRA_OK;
}

aiinfra_status aii_jsonl_next(aii_vecfile *file, aii_vecrow *row, bool *there, aiinfra_error *err)
{
  const char *line;
  size_t n;
  aiinfra_status rc = next_line(file, &line, &n, there, err);
  if (rc == AIINFRA_OK && !*there) file->n_rows = file->row;
  if (rc != AIINFRA_OK || !*there) return rc;
  rc = parse_line(file, line, n, err);
  return rc == AIINFRA_OK ? take_row(file, row, err) : rc;
}

aiinfra_status aii_jsonl_skip(aii_vecfile *file, bool *there, aiinfra_error *err)
{
  const char *line;
  size_t n;
  return next_line(file, &line, &n, there, err);
}

aiinfra_status aii_jsonl_open(aii_vecfile *file, aiinfra_error *err)
{
  const char *line;
  size_t n;
  bool there;
  json_t *vector = NULL;
  file->n_rows = AII_ROWS_UNKNOWN;
  aiinfra_status rc = next_line(file, &line, &n, &there, err);
  if (rc == AIINFRA_OK && !there) file->n_rows = 0;
  if (rc != AIINFRA_OK || !there) return rc;
  rc = parse_line(file, line, n, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_array(file->json, "", "vector", true, &vector, err);
  if (rc != AIINFRA_OK) return rc;
  n = json_array_size(vector);
  if (n < 1 || n > AII_FILE_MAX_DIMS) {
    return aii_fail(err, AIINFRA_EINVAL, "its vector has %zu elements, not 1 to %d", n, AII_FILE_MAX_DIMS);
  }
  file->dims = (uint32_t)n;
  if (lseek(file->fd, 0, SEEK_SET) < 0) return aii_fail(err, AIINFRA_EIO, "the file cannot be read again");
  file->at = file->n = 0;
  file->row = file->line = file->got = 0;
  return AIINFRA_OK;
}

void aii_jsonl_write(aii_buf *out, const aii_vecrow *row, uint32_t dims)
{
  aii_buf_fmt(out, "{\"id\":%lld,\"vector\":", (long long)row->id);
  aii_jsonl_put_floats(out, row->vector, dims);
  aii_jsonl_put_named(out, row->named, row->n_named);
  if (row->text != NULL) {
    aii_buf_str(out, ",\"text\":");
    aii_buf_json(out, row->text, strlen(row->text));
  }
  if (row->payload != NULL) {
    aii_buf_str(out, ",\"payload\":");
    for (const char *p = row->payload; *p != '\0'; p++) { /* between values alone JSON may have line ends */
      aii_buf_char(out, *p == '\n' || *p == '\r' ? ' ' : *p);
    }
  }
  if (row->expires_ms != 0) aii_buf_fmt(out, ",\"expires_ms\":%lld", (long long)row->expires_ms);
  aii_buf_str(out, "}\n");
}
