/* convert.c - writes any model that can be opened as one GGUF file, in the types of a recipe.
 *
 * The happy path is: open the source -> keys and tensor infos make the header -> the data follows tensor by tensor, some
 * rows at a time -> the file, written aside, is synced and takes its name. Memory: the directories, and about a megabyte
 * of rows. On failure, and when the progress callback cancels, the file aside is removed and what had the name before is
 * as it was.
 */
#include "src/model/arch.h"
#include "src/model/recode.h"

typedef struct job {
  aii_gguf *source;
  aii_recoder recoder;
  aii_gguf_writer writer;
  const aiinfra_convert_opts *opts;
  aii_aside file;
  uint64_t done, total;
  aiinfra_error *err;
} job;

/* ---- the header ------------------------------------------------------------------------------------------------------- */

static bool is(aii_str s, const char *text)
{
  return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

/* What describes the source's file, not the model. */
static bool is_of_file(const job *j, aii_str key)
{
  bool new_type = aii_recoder_file_type(&j->recoder) != UINT32_MAX;
  return is(key, "split.no") || is(key, "split.count") || is(key, "split.tensors.count") ||
         is(key, "general.alignment") || is(key, "general.quantization_version") ||
         (new_type && is(key, "general.file_type"));
}

static aiinfra_status make_header(job *j, aii_buf *out)
{
  const aii_gguf *g = j->source;
  uint32_t file_type = aii_recoder_file_type(&j->recoder);
  if (g->vocab != NULL && aii_gguf_find(g, "tokenizer.ggml.tokens") == NULL &&
      aii_gguf_find(g, "tokenizer.huggingface.json") == NULL) {
    return aii_gguf_put_vocab(g->mem, g->vocab, &j->writer, j->err); /* says why it cannot be */
  }
  for (size_t i = 0; i < g->n_kv; i++) {
    if (!is_of_file(j, g->kvs[i].key)) aii_put_kv(&j->writer, &g->kvs[i]);
  }
  if (file_type != UINT32_MAX) aii_put_u32(&j->writer, "general.file_type", file_type);
  aii_put_u32(&j->writer, "general.quantization_version", 2);
  for (size_t i = 0; i < g->n_tensors; i++) {
    const aii_gguf_tensor *t = &g->tensors[i];
    uint32_t type = aii_recoder_type(&j->recoder, i);
    uint64_t bytes = aii_recoder_rows(&j->recoder, i) * aii_recoder_row_bytes(&j->recoder, i, type);
    aii_put_tensor(&j->writer, t->name, type, t->n_dims, t->ne, bytes);
    j->total += bytes;
  }
  return aii_put_finish(&j->writer, out, j->err);
}

/* ---- the data --------------------------------------------------------------------------------------------------------- */

static aiinfra_status tell(job *j, uint64_t bytes)
{
  j->done += bytes;
  if (j->opts->progress == NULL) return AIINFRA_OK;
  double fraction = j->total > 0 ? (double)j->done / (double)j->total : 1;
  if (j->opts->progress(j->opts->progress_user, fraction) == 0) return AIINFRA_OK;
  return aii_fail(j->err, AIINFRA_ECANCELED, "the progress callback cancelled the conversion");
}

static aiinfra_status write_tensor(job *j, size_t t, uint8_t *rows)
{
  static const uint8_t zeros[AII_GGUF_ALIGNMENT];
  uint32_t type = aii_recoder_type(&j->recoder, t);
  uint64_t n = aii_recoder_rows(&j->recoder, t), step = aii_recoder_step(&j->recoder, t);
  uint64_t row_bytes = aii_recoder_row_bytes(&j->recoder, t, type);
  aiinfra_status rc = AIINFRA_OK;
  for (uint64_t row = 0; row < n && rc == AIINFRA_OK; row += step) {
    uint64_t some = AII_MIN(step, n - row);
    rc = aii_recoder_read(&j->recoder, t, type, row, some, rows, j->err);
    if (rc == AIINFRA_OK) rc = aii_aside_write(&j->file, rows, (size_t)(some * row_bytes), j->err);
    if (rc == AIINFRA_OK) rc = tell(j, some * row_bytes);
  }
  size_t rest = (size_t)(n * row_bytes % AII_GGUF_ALIGNMENT);
  return rc == AIINFRA_OK && rest != 0 ? aii_aside_write(&j->file, zeros, AII_GGUF_ALIGNMENT - rest, j->err) : rc;
}

static aiinfra_status write_data(job *j)
{
  size_t most = 0;
  aiinfra_status rc = AIINFRA_OK;
  for (size_t t = 0; t < j->source->n_tensors; t++) {
    uint64_t row_bytes = aii_recoder_row_bytes(&j->recoder, t, aii_recoder_type(&j->recoder, t));
    most = AII_MAX(most, (size_t)(aii_recoder_step(&j->recoder, t) * row_bytes));
  }
  if (most == 0) return tell(j, 0);
  uint8_t *rows = aii_new_aligned(j->source->mem, most);
  if (rows == NULL) return aii_fail(j->err, AIINFRA_ENOMEM, "no memory for %zu bytes of rows", most);
  for (size_t t = 0; t < j->source->n_tensors && rc == AIINFRA_OK; t++) rc = write_tensor(j, t, rows);
  aii_del_aligned(j->source->mem, rows, most);
  return rc;
}

/* ---- the file --------------------------------------------------------------------------------------------------------- */

static aiinfra_status write_file(job *j, const char *to)
{
  aii_buf header;
  aii_buf_init(&header, j->source->mem, 0);
  aiinfra_status rc = make_header(j, &header);
  if (rc == AIINFRA_OK) rc = aii_aside_open(&j->file, j->source->mem, to, j->err);
  if (rc == AIINFRA_OK) {
    rc = aii_aside_write(&j->file, header.data, header.len, j->err);
    if (rc == AIINFRA_OK) rc = write_data(j);
    rc = aii_aside_close(&j->file, rc, j->err);
  }
  aii_buf_free(&header);
  return rc == AIINFRA_OK ? rc : aii_wrap(j->err, rc, "write '%s'", to);
}

aiinfra_status aii_convert(aii_mem *mem, const char *from, const char *to, const aiinfra_convert_opts *opts,
                           aiinfra_error *err)
{
  job j = {.opts = opts, .err = err};
  aiinfra_status rc = aii_source_open(mem, from, opts->tokenizer, &j.source, err);
  if (rc != AIINFRA_OK) return rc;
  aii_put_init(&j.writer, mem);
  rc = aii_recoder_init(&j.recoder, j.source, opts->type, opts->imatrix, err);
  if (rc == AIINFRA_OK) rc = write_file(&j, to);
  aii_recoder_free(&j.recoder);
  aii_put_free(&j.writer);
  aii_gguf_free(j.source);
  return rc;
}
