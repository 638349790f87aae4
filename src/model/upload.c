/* upload.c - a model's weights to the backend: those of a packed file are adopted, the others are made there.
 *
 * The happy path is: do they fit? -> which of them meet rounded activations? -> is there a packed file that is right? -> weight after weight -> the packed file, when
 * one is asked for and was missing, out of date, or does not know the model's files as they are now. What goes wrong with
 * that file is told to the log and is no failure: the weights are then packed in memory.
 */
#include "src/model/arch.h"
#include "src/model/packed.h"

enum { LINE = 64 };

/* Mapped weights that exceed memory would be read from disk again for every token. */
static aiinfra_status check_fits(const aiinfra_model *m, aiinfra_error *err)
{
  uint64_t total = aii_memory_total();
  if (total != 0 && m->weight_bytes > total) {
    return aii_fail(err, AIINFRA_ENOMEM,
                    "the model does not fit in memory: its weights take %llu bytes, this process may have %llu; use a "
                    "smaller model or a smaller quantisation",
                    (unsigned long long)m->weight_bytes, (unsigned long long)total);
  }
  return AIINFRA_OK;
}

/* Matrices of BF16, when the caller wants it and the device gains by it. */
static void choose_activations(aiinfra_model *m, const aiinfra_model_opts *opts)
{
  const aii_backend *be = m->rt->backend;
  size_t cursor = 0;
  if (opts->bf16_activations != 1 || (be->ops->takes_bf16_x != NULL && !be->ops->takes_bf16_x(be))) return;
  for (aii_weight *w; (w = aii_tensors_at(m, &cursor)) != NULL;) {
    w->bf16_x = w->type == AII_BF16 && w->n_out > 1 && !w->lookup;
    m->bf16_x |= w->bf16_x;
  }
}

static aiinfra_status no_room(const aiinfra_model *m, const aii_weight *w, aiinfra_status rc, aiinfra_error *err)
{
  const aii_mem *mem = &m->rt->mem;
  if (rc != AIINFRA_ENOMEM || mem->limit_bytes == 0) {
    return aii_wrap(err, rc, "prepare a weight of %u x %u", w->n_in, w->n_out);
  }
  return aii_fail(err, AIINFRA_ENOMEM,
                  "the model does not fit in memory_limit_bytes: %llu bytes of weights, %zu of %zu bytes in use",
                  (unsigned long long)m->weight_bytes, atomic_load(&mem->used_bytes), mem->limit_bytes);
}

/* A weight that has a form of its own needs its place in the file no more, unless rows are looked up there. */
static void forget(const aiinfra_model *m, const aii_weight *w)
{
  if (w->device != NULL) aii_file_set_forget(&m->gguf->files, w->source, aii_weight_bytes(w));
}

/* The bytes that a weight takes in the slab. */
static size_t slab_share(const aiinfra_model *m, const aii_weight *w)
{
  const aii_backend_ops *ops = m->rt->backend->ops;
  return ops->packed_bytes != NULL ? (ops->packed_bytes(w) + LINE - 1) / LINE * LINE : 0;
}

/* One piece of memory for all weights that will be packed in memory. */
static aiinfra_status make_slab(aiinfra_model *m, aiinfra_error *err)
{
  aii_backend *be = m->rt->backend;
  const aii_weight *largest = NULL;
  size_t cursor = 0, total = 0;
  for (aii_weight *w; (w = aii_tensors_at(m, &cursor)) != NULL;) {
    size_t share = slab_share(m, w);
    if (share > 0 && (largest == NULL || share > slab_share(m, largest))) largest = w;
    if (!aii_size_add(total, share, &total))
      return aii_fail(err, AIINFRA_EFORMAT, "more bytes than there are addresses");
  }
  if (total == 0) return AIINFRA_OK;
  aiinfra_status rc = be->ops->alloc(be, total, &m->slab, err);
  if (rc != AIINFRA_OK) return no_room(m, largest, rc, err);
  m->slab_bytes = total;
  return AIINFRA_OK;
}

/* Where the load is. */
typedef struct place {
  size_t entry; /* of the plan of the packed file */
  size_t at;    /* in the slab */
} place;

static aiinfra_status upload(aiinfra_model *m, aii_weight *w, bool note, place *next, aiinfra_error *err)
{
  aii_backend *be = m->rt->backend;
  aii_packed *p = m->packed;
  const void *packed = NULL;
  if (p != NULL && next->entry < p->header.n_entries && p->weights[next->entry] == w) {
    if (p->file.bytes != NULL) packed = p->file.bytes + p->entries[next->entry].at;
    else if (note) aii_packed_note_source(p, next->entry);
    next->entry++;
  }
  if (m->slab != NULL && slab_share(m, w) > 0) {
    w->device = (char *)m->slab + next->at;
    next->at += slab_share(m, w);
  }
  aii_device_lock(m->rt);
  aiinfra_status rc = packed != NULL ? be->ops->adopt(be, w, packed, err) : be->ops->upload(be, w, err);
  aii_device_unlock(m->rt);
  if (rc == AIINFRA_OK) forget(m, w);
  return rc == AIINFRA_OK ? rc : no_room(m, w, rc, err);
}

static aiinfra_status upload_all(aiinfra_model *m, const aiinfra_model_opts *opts, bool note, aiinfra_error *err)
{
  uint64_t done = 0;
  size_t cursor = 0;
  place next = {0, 0};
  for (aii_weight *w; (w = aii_tensors_at(m, &cursor)) != NULL;) {
    aiinfra_status rc = upload(m, w, note, &next, err);
    if (rc != AIINFRA_OK) return rc;
    m->n_uploaded++;
    done += (uint64_t)w->n_in * w->n_out * w->n_mats;
    double fraction = (double)done / (double)m->n_params;
    if (m->gguf->made != NULL) fraction = (1 + fraction) / 2;
    if (opts->progress != NULL && opts->progress(opts->progress_user, fraction) != 0) {
      return aii_fail(err, AIINFRA_ECANCELED, "the progress callback cancelled the loading");
    }
  }
  if (m->tied) m->output = m->tok_embd;
  return AIINFRA_OK;
}

/* ---- the packed file --------------------------------------------------------------------------------------------- */

/* Maps the file if it is right. Whether it is to be written: nobody else's file is. */
static bool find_packed(aiinfra_model *m, const char *path)
{
  aiinfra_error why;
  aiinfra_status rc = aii_packed_map(m->packed, path, &why);
  if (rc == AIINFRA_OK) {
    aii_logf(&m->rt->log, AIINFRA_LOG_INFO, "model '%s': packed weights mapped from '%s'", m->name, path);
    return !aii_packed_is_fresh(m->packed);
  }
  if (rc != AIINFRA_ENOENT) {
    aii_logf(&m->rt->log, AIINFRA_LOG_WARN, "model '%s': packed weights not used: %s", m->name, why.message);
  }
  return rc == AIINFRA_ENOENT || rc == AIINFRA_EFORMAT;
}

static void write_packed(aiinfra_model *m, const char *path)
{
  aiinfra_error why;
  aiinfra_status rc = aii_packed_write(m->packed, path, &why);
  if (rc == AIINFRA_OK) {
    aii_logf(&m->rt->log, AIINFRA_LOG_INFO, "model '%s': packed weights written to '%s'", m->name, path);
  } else { /* a file that was mapped is as good as before */
    aiinfra_log_level level = m->packed->file.bytes != NULL ? AIINFRA_LOG_INFO : AIINFRA_LOG_WARN;
    aii_logf(&m->rt->log, level, "model '%s': packed weights not kept in '%s': %s", m->name, path, why.message);
  }
}

aiinfra_status aii_model_upload(aiinfra_model *m, const aiinfra_model_opts *opts, aiinfra_error *err)
{
  aiinfra_status rc = check_fits(m, err);
  if (rc == AIINFRA_OK) choose_activations(m, opts);
  bool keeps = opts->packed_path != NULL && !aii_is_split(m);
  if (rc == AIINFRA_OK && keeps) rc = aii_packed_plan(m, &m->packed, err);
  if (rc != AIINFRA_OK) return rc;
  if (m->packed == NULL && opts->packed_path != NULL) {
    aii_logf(&m->rt->log, AIINFRA_LOG_INFO,
             "model '%s': this device, or a model of several ranks, keeps no packed weights", m->name);
  }
  bool write = m->packed != NULL && find_packed(m, opts->packed_path);
  if (m->packed == NULL || m->packed->file.bytes == NULL) rc = make_slab(m, err);
  if (rc == AIINFRA_OK) rc = upload_all(m, opts, write, err);
  if (rc == AIINFRA_OK && write) write_packed(m, opts->packed_path);
  if (m->packed != NULL && m->packed->file.bytes == NULL) {
    aii_packed_free(m->packed);
    m->packed = NULL;
  }
  return rc;
}
