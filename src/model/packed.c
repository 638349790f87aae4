/* packed.c - the file of packed weights: a header, an entry for each weight, and their bytes from a page boundary on.
 *
 * What makes a file right: it has the header and the entries of the plan, so it was made of tensors of these types, shapes
 * and places by a backend of this form, for activations of the same type; all sums are right; and the model's rows are those that it was made of. The last
 * holds when the ids of the model's files (file_map.c) are those of then; else every row is read and compared by its sum.
 * Rows that are made in memory are always compared.
 *
 * What is not noticed: a model file that is written through a shared mapping while it is opened, where the kernel is late
 * to set its times. As with any mapped file, who cuts a packed file short that is in use kills its users with SIGBUS; the
 * library itself only ever renames a new one over it.
 */
#include "src/model/packed.h"

#include "src/model/arch.h"

static const char magic[8] = "AIIPACK";

enum { VERSION = 2, ORDER = 0x01020304, PAGE = 4096, LINE = 64 };

_Static_assert(sizeof(aii_packed_header) == 64 && sizeof(aii_packed_entry) == 64, "there is no padding");

/* ---- sums ------------------------------------------------------------------------------------------------------ */

static uint64_t source_sum(const aii_packed *p, size_t i)
{
  return aii_sum_of(p->pool, p->weights[i]->source, aii_weight_bytes(p->weights[i]));
}

uint64_t aii_packed_directory_sum(aii_packed_header header, const void *entries)
{
  header.sum = 0;
  uint64_t sum = aii_hash64(&header, sizeof header, 0);
  return aii_hash64(entries, header.n_entries * sizeof(aii_packed_entry), sum);
}

/* ---- the plan -------------------------------------------------------------------------------------------------- */

static uint64_t id_of_files(const aii_file_set *files)
{
  uint64_t id = 1;
  for (size_t i = 0; i < files->n; i++) {
    if (files->items[i].id == 0) return 0;
    id = aii_hash64(&files->items[i].id, sizeof files->items[i].id, id);
  }
  return id;
}

static void find_source(const aii_file_set *files, const aii_weight *w, aii_packed_entry *e)
{
  e->file = UINT32_MAX;
  for (size_t i = 0; i < files->n; i++) {
    uintptr_t begin = (uintptr_t)files->items[i].bytes, at = (uintptr_t)w->source;
    if (at < begin || at - begin >= files->items[i].size) continue;
    e->file = (uint32_t)i;
    e->source_at = at - begin;
  }
}

static bool place(aii_packed *p, size_t i, size_t *end)
{
  aii_packed_entry *e = &p->entries[i];
  size_t at;
  if (!aii_size_add(*end, LINE - 1, &at)) return false;
  e->at = at / LINE * LINE;
  return aii_size_add(e->at, e->bytes, end);
}

static aiinfra_status fill(aiinfra_model *m, aii_packed *p, aiinfra_error *err)
{
  const aii_backend_ops *ops = m->rt->backend->ops;
  size_t n = 0, cursor = 0;
  size_t end = (sizeof p->header + p->header.n_entries * sizeof p->entries[0] + PAGE - 1) / PAGE * PAGE;
  for (aii_weight *w; (w = aii_tensors_at(m, &cursor)) != NULL;) {
    size_t bytes = ops->packed_bytes(w);
    if (bytes == 0) continue;
    aii_packed_entry *e = &p->entries[n];
    *e = (aii_packed_entry){.type = (uint32_t)w->type, .n_in = w->n_in, .n_out = w->n_out, .bytes = bytes};
    e->n_mats = w->n_mats;
    e->bf16_x = w->bf16_x;
    find_source(&m->gguf->files, w, e);
    p->weights[n] = w;
    if (!place(p, n++, &end)) return aii_fail(err, AIINFRA_EFORMAT, "more packed bytes than there are addresses");
  }
  p->header.file_bytes = end;
  return AIINFRA_OK;
}

static uint32_t count(aiinfra_model *m)
{
  uint32_t n = 0;
  size_t cursor = 0;
  for (aii_weight *w; (w = aii_tensors_at(m, &cursor)) != NULL;) n += m->rt->backend->ops->packed_bytes(w) > 0;
  return n;
}

aiinfra_status aii_packed_plan(aiinfra_model *m, aii_packed **out, aiinfra_error *err)
{
  const aii_backend_ops *ops = m->rt->backend->ops;
  *out = NULL;
  uint32_t n = ops->packed_bytes != NULL ? count(m) : 0;
  if (n == 0) return AIINFRA_OK;
  aii_packed *p = aii_new(&m->rt->mem, sizeof *p);
  if (p == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a plan of packed weights");
  p->mem = &m->rt->mem;
  p->pool = m->rt->pool;
  p->header = (aii_packed_header){.order = ORDER, .version = VERSION, .layout = ops->packed_layout, .n_entries = n};
  memcpy(p->header.magic, magic, sizeof magic);
  memcpy(p->header.backend, ops->name, AII_MIN(strlen(ops->name), sizeof p->header.backend));
  p->header.source = id_of_files(&m->gguf->files);
  p->entries = aii_new_array(p->mem, n, sizeof p->entries[0]);
  p->weights = aii_new_array(p->mem, n, sizeof p->weights[0]);
  aiinfra_status rc = AIINFRA_OK;
  if (p->entries == NULL || p->weights == NULL)
    rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a list of %u weights", n);
  if (rc == AIINFRA_OK) rc = fill(m, p, err);
  if (rc == AIINFRA_OK) *out = p;
  else aii_packed_free(p);
  return rc;
}

void aii_packed_free(aii_packed *p)
{
  if (p == NULL) return;
  aii_file_unmap(&p->file);
  aii_del(p->mem, p->entries, p->header.n_entries * sizeof p->entries[0]);
  aii_del(p->mem, p->weights, p->header.n_entries * sizeof p->weights[0]);
  aii_del(p->mem, p, sizeof *p);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static aiinfra_status wrong(aiinfra_error *err, const char *what)
{
  return aii_fail(err, AIINFRA_EFORMAT, "%s", what);
}

static aiinfra_status check_header(const aii_packed *p, const uint8_t *bytes, size_t n, aiinfra_error *err)
{
  aii_packed_header h = {0}, want = p->header;
  memcpy(&h, bytes, AII_MIN(n, sizeof h));
  if (memcmp(h.magic, magic, AII_MIN(n, sizeof magic)) != 0)
    return aii_fail(err, AIINFRA_EEXIST, "this is no file of packed weights; it stays as it is: name another one");
  if (h.order != want.order) return wrong(err, "it comes from a machine of another byte order");
  if (h.version != want.version || h.layout != want.layout || memcmp(h.backend, want.backend, sizeof h.backend) != 0)
    return wrong(err, "it was made for another version or another device");
  if (h.n_entries != want.n_entries || h.file_bytes != want.file_bytes) return wrong(err, "the model is another one");
  if (n != want.file_bytes) return wrong(err, "it is damaged: its size is wrong");
  if (h.sum != aii_packed_directory_sum(h, bytes + sizeof h))
    return wrong(err, "it is damaged: the sum of its header is wrong");
  return AIINFRA_OK;
}

/* A file of the same model whose weights have other forms: another device, or another choice of activations. */
static bool other_form(aii_packed_entry a, const aii_packed_entry *b)
{
  bool differs = a.bf16_x != b->bf16_x;
  a.bf16_x = b->bf16_x;
  return differs && memcmp(&a, b, offsetof(aii_packed_entry, at)) == 0;
}

static aiinfra_status check_entry(aii_packed *p, size_t i, const uint8_t *bytes, bool trusted, aiinfra_error *err)
{
  aii_packed_entry e, *want = &p->entries[i];
  memcpy(&e, bytes + sizeof p->header + i * sizeof e, sizeof e);
  if (other_form(e, want)) return wrong(err, "it was made for activations of another type");
  if (memcmp(&e, want, offsetof(aii_packed_entry, source_sum)) != 0) return wrong(err, "the model is another one");
  if ((!trusted || e.file == UINT32_MAX) && e.source_sum != source_sum(p, i))
    return wrong(err, "the model has changed");
  if (e.sum != aii_sum_of(p->pool, bytes + want->at, want->bytes))
    return wrong(err, "it is damaged: the sum of a weight is wrong");
  *want = e;
  return AIINFRA_OK;
}

static uint64_t source_in(const uint8_t *bytes)
{
  uint64_t source;
  memcpy(&source, bytes + offsetof(aii_packed_header, source), sizeof source);
  return source;
}

aiinfra_status aii_packed_check(aii_packed *p, const uint8_t *bytes, size_t n, aiinfra_error *err)
{
  aiinfra_status rc = check_header(p, bytes, n, err);
  bool trusted = rc == AIINFRA_OK && p->header.source != 0 && source_in(bytes) == p->header.source;
  for (size_t i = 0; i < p->header.n_entries && rc == AIINFRA_OK; i++) rc = check_entry(p, i, bytes, trusted, err);
  return rc;
}

aiinfra_status aii_packed_map(aii_packed *p, const char *path, aiinfra_error *err)
{
  aiinfra_status rc = aii_file_map(path, &p->file, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_packed_check(p, p->file.bytes, p->file.size, err);
  if (rc != AIINFRA_OK) aii_file_unmap(&p->file);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "open '%s'", path);
}

bool aii_packed_is_fresh(const aii_packed *p)
{
  return p->file.bytes != NULL && (p->header.source == 0 || source_in(p->file.bytes) == p->header.source);
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

void aii_packed_note_source(aii_packed *p, size_t i)
{
  p->entries[i].source_sum = source_sum(p, i);
}

static aiinfra_status write_weights(const aii_packed *p, aii_aside *file, aiinfra_error *err)
{
  static const uint8_t zeros[PAGE];
  size_t at = sizeof p->header + p->header.n_entries * sizeof p->entries[0];
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; i < p->header.n_entries && rc == AIINFRA_OK; i++) {
    const aii_packed_entry *e = &p->entries[i];
    rc = aii_aside_write(file, zeros, e->at - at, err);
    if (rc == AIINFRA_OK) rc = aii_aside_write(file, p->weights[i]->device, e->bytes, err);
    at = e->at + e->bytes;
  }
  return rc;
}

aiinfra_status aii_packed_write(aii_packed *p, const char *path, aiinfra_error *err)
{
  aii_aside file;
  for (size_t i = 0; i < p->header.n_entries; i++)
    p->entries[i].sum = aii_sum_of(p->pool, p->weights[i]->device, p->entries[i].bytes);
  p->header.sum = aii_packed_directory_sum(p->header, p->entries);
  aiinfra_status rc = aii_aside_open(&file, p->mem, path, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_aside_write(&file, &p->header, sizeof p->header, err);
  if (rc == AIINFRA_OK) rc = aii_aside_write(&file, p->entries, p->header.n_entries * sizeof p->entries[0], err);
  if (rc == AIINFRA_OK) rc = write_weights(p, &file, err);
  return aii_aside_close(&file, rc, err);
}
