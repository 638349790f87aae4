/* load.c - gives every tensor of a directory data: makes what no file holds as it is, quantises when asked to.
 *
 * One tensor at a time is made, into memory of its own that lives as long as the directory. What would not fit into
 * this process's memory is refused before anything is made.
 */
#include "src/model/arch.h"
#include "src/model/recode.h"

static bool must_make(const aii_recoder *r, size_t t)
{
  const aii_gguf_tensor *tensor = &r->gguf->tensors[t];
  return tensor->data == NULL || aii_recoder_type(r, t) != tensor->type;
}

static uint64_t bytes_of(const aii_recoder *r, size_t t)
{
  return aii_recoder_rows(r, t) * aii_recoder_row_bytes(r, t, aii_recoder_type(r, t));
}

static aiinfra_status make(aii_recoder *r, aii_gguf *g, size_t t, aiinfra_error *err)
{
  uint32_t type = aii_recoder_type(r, t);
  uint64_t bytes = bytes_of(r, t), rows = aii_recoder_rows(r, t), row_bytes = aii_recoder_row_bytes(r, t, type);
  uint8_t *data = bytes <= SIZE_MAX ? aii_new_aligned(g->mem, (size_t)bytes) : NULL;
  if (data == NULL) {
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for the %llu bytes of tensor '%.*s'", (unsigned long long)bytes,
                    AII_SHOW(g->tensors[t].name));
  }
  g->made[t] = (aii_made){data, (size_t)bytes};
  aiinfra_status rc = AIINFRA_OK;
  for (uint64_t row = 0, step = aii_recoder_step(r, t); row < rows && rc == AIINFRA_OK; row += step) {
    rc = aii_recoder_read(r, t, type, row, AII_MIN(step, rows - row), data + row * row_bytes, err);
  }
  if (rc != AIINFRA_OK) return rc;
  g->tensors[t].type = type;
  g->tensors[t].bytes = bytes;
  g->tensors[t].data = data;
  return AIINFRA_OK;
}

static aiinfra_status make_all(aii_recoder *r, aii_gguf *g, uint64_t total, aiinfra_progress_fn progress, void *user,
                               aiinfra_error *err)
{
  uint64_t done = 0;
  aiinfra_status rc = AIINFRA_OK;
  for (size_t t = 0; t < g->n_tensors && rc == AIINFRA_OK; t++) {
    if (!must_make(r, t)) continue;
    rc = make(r, g, t, err);
    done += g->tensors[t].bytes;
    if (rc == AIINFRA_OK && progress != NULL && progress(user, (double)done / (double)total) != 0) {
      rc = aii_fail(err, AIINFRA_ECANCELED, "the progress callback cancelled the loading");
    }
  }
  return rc;
}

aiinfra_status aii_gguf_load(aii_gguf *g, const char *type, aiinfra_progress_fn progress, void *progress_user,
                             aiinfra_error *err)
{
  aii_recoder r;
  uint64_t total = 0, memory = aii_memory_total();
  aiinfra_status rc = aii_recoder_init(&r, g, type, NULL, err);
  for (size_t t = 0; rc == AIINFRA_OK && t < g->n_tensors; t++) total += must_make(&r, t) ? bytes_of(&r, t) : 0;
  if (rc == AIINFRA_OK && memory != 0 && total > memory) {
    rc =
        aii_fail(err, AIINFRA_ENOMEM,
                 "the model does not fit in memory: %llu bytes must be made, this process may have %llu; convert it to "
                 "a smaller GGUF file",
                 (unsigned long long)total, (unsigned long long)memory);
  }
  if (rc == AIINFRA_OK && total > 0) {
    g->made = aii_new_array(g->mem, g->n_tensors, sizeof g->made[0]);
    if (g->made == NULL) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a list of tensors");
  }
  if (rc == AIINFRA_OK && total > 0) rc = make_all(&r, g, total, progress, progress_user, err);
  aii_recoder_free(&r);
  return rc;
}
