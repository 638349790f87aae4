/* imatrix_api.c - the public functions of aiinfra/imatrix.h: sums of squared activations, column by column.
 *
 * The backend has a place for a second table of operations, which a forward pass takes instead of its own while it is
 * there. Ours is a copy whose products look at their activations before they pass them on; so the forward pass knows
 * nothing of importance, and pays nothing when nobody looks. Passes hold the device's lock, and so do we.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "aiinfra/imatrix.h"
#include "src/model/gguf.h"

enum { ROW_FLOATS = 1 << 16, MAX_IDS = 1 << 12, CHUNK_TOKENS = 512 };

/* What the weights of one tensor met; a tensor of experts is n_mats weights. */
typedef struct entry {
  const aii_gguf_tensor *tensor;
  size_t n_in, n_mats;
  double *sums;   /* [n_mats][n_in] */
  double *counts; /* [n_mats] rows of activations */
} entry;

struct aiinfra_imatrix {
  aii_backend_ops ops; /* the backend's, but for products */
  aiinfra_model *model;
  entry *entries; /* by address of their tensors' data */
  size_t n_entries;
  float *rows; /* [row_floats] host memory */
  size_t row_floats;
  int32_t ids[MAX_IDS];
  aiinfra_status failed;
  aiinfra_error why;
};

/* ---- observing ------------------------------------------------------------------------------------------------- */

/* The entry whose tensor holds this address: some weights are parts of a tensor. */
static entry *find_entry(aiinfra_imatrix *im, const void *source)
{
  uintptr_t at = (uintptr_t)source;
  size_t lo = 0, hi = im->n_entries;
  while (lo < hi) {
    size_t mid = (lo + hi) / 2;
    if ((uintptr_t)im->entries[mid].tensor->data <= at) lo = mid + 1;
    else hi = mid;
  }
  if (lo == 0) return NULL;
  entry *e = &im->entries[lo - 1];
  return at - (uintptr_t)e->tensor->data < e->tensor->bytes ? e : NULL;
}

static void add_row(entry *e, size_t mat, const float *x)
{
  double *sums = e->sums + mat * e->n_in;
  for (size_t i = 0; i < e->n_in; i++) sums[i] += (double)x[i] * (double)x[i];
  e->counts[mat]++;
}

/* Row i / repeat of x meets matrix ids[i]; ids NULL: matrices take turns. */
static void observe(aiinfra_imatrix *im, const aii_weight *w, const int32_t *ids, const float *x, uint32_t repeat,
                    size_t n)
{
  aii_backend *be = im->model->rt->backend;
  entry *e = find_entry(im, w->source);
  size_t n_mats = AII_MAX(w->n_mats, 1u);
  if (e == NULL || e->n_in != w->n_in || e->n_mats < n_mats || repeat == 0 || repeat > MAX_IDS) return;
  size_t group = AII_MAX(AII_MIN(im->row_floats / e->n_in, MAX_IDS / repeat), 1u);
  for (size_t at = 0; at < n && im->failed == AIINFRA_OK; at += group * repeat) {
    size_t len = AII_MIN(group * repeat, n - at), n_x = (len - 1) / repeat + 1;
    im->failed = be->ops->to_host(be, im->rows, x + at / repeat * e->n_in, n_x * e->n_in * sizeof *x, &im->why);
    if (ids != NULL && im->failed == AIINFRA_OK)
      im->failed = be->ops->to_host(be, im->ids, ids + at, len * sizeof *ids, &im->why);
    for (size_t i = 0; i < len && im->failed == AIINFRA_OK; i++) {
      size_t mat = ids != NULL ? (size_t)im->ids[i] : (at + i) % n_mats;
      if (mat < n_mats) add_row(e, mat, im->rows + i / repeat * e->n_in);
    }
  }
}

static aiinfra_imatrix *observer(const aii_backend *be)
{
  return AII_CONTAINER((aii_backend_ops *)(uintptr_t)be->observed, aiinfra_imatrix, ops);
}

static void observed_matmul(aii_backend *be, const aii_weight *w, const aii_weight *bias, const float *x,
                            uint32_t n_rows, bool accumulate, float *y)
{
  observe(observer(be), w, NULL, x, 1, n_rows);
  be->ops->matmul(be, w, bias, x, n_rows, accumulate, y);
}

static void observed_matmuls(aii_backend *be, const aii_mul *muls, uint32_t n, const float *x, uint32_t n_rows)
{
  for (uint32_t m = 0; m < n; m++) observe(observer(be), muls[m].w, NULL, x, 1, n_rows);
  be->ops->matmuls(be, muls, n, x, n_rows);
}

static void observed_gated(aii_backend *be, aii_act act, const aii_mul *gate, const aii_mul *up, const float *x,
                           uint32_t n_rows)
{
  observe(observer(be), gate->w, NULL, x, 1, n_rows);
  observe(observer(be), up->w, NULL, x, 1, n_rows);
  be->ops->gated(be, act, gate, up, x, n_rows);
}

static void observed_matmul_ids(aii_backend *be, const aii_weight *w, const aii_weight *bias, const int32_t *ids,
                                const float *x, uint32_t repeat, uint32_t n, float *y)
{
  observe(observer(be), w, ids, x, repeat, n);
  be->ops->matmul_ids(be, w, bias, ids, x, repeat, n, y);
}

/* ---- create, free ---------------------------------------------------------------------------------------------- */

static bool is_matrix(const aii_gguf_tensor *t)
{
  static const char ending[] = ".weight";
  size_t n = sizeof ending - 1;
  return t->n_dims >= 2 && t->data != NULL && t->name.n > n && memcmp(t->name.p + t->name.n - n, ending, n) == 0;
}

static int by_address(const void *a, const void *b)
{
  uintptr_t x = (uintptr_t)((const entry *)a)->tensor->data, y = (uintptr_t)((const entry *)b)->tensor->data;
  return x < y ? -1 : x > y;
}

static aiinfra_status make_entries(aiinfra_imatrix *im, aiinfra_error *err)
{
  aii_mem *mem = &im->model->rt->mem;
  const aii_gguf *gguf = im->model->gguf;
  size_t n = aii_gguf_n_tensors(gguf), longest = ROW_FLOATS;
  im->entries = aii_new_array(mem, n, sizeof im->entries[0]);
  for (size_t i = 0; im->entries != NULL && i < n; i++) {
    const aii_gguf_tensor *t = aii_gguf_tensor_at(gguf, i);
    if (!is_matrix(t)) continue;
    entry *e = &im->entries[im->n_entries++];
    *e = (entry){.tensor = t, .n_in = (size_t)t->ne[0], .n_mats = (size_t)(t->ne[2] * t->ne[3])};
    e->counts = aii_new_array(mem, e->n_mats, sizeof(double));
    e->sums = aii_new_array(mem, e->n_mats, e->n_in * sizeof(double));
    if (e->counts == NULL || e->sums == NULL)
      return aii_fail(err, AIINFRA_ENOMEM, "no memory for an importance matrix");
    longest = AII_MAX(longest, e->n_in);
  }
  im->rows = aii_new_array(mem, longest, sizeof(float));
  im->row_floats = longest;
  if (im->entries == NULL || im->rows == NULL)
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for an importance matrix");
  qsort(im->entries, im->n_entries, sizeof im->entries[0], by_address);
  return AIINFRA_OK;
}

static aiinfra_status attach(aiinfra_imatrix *im, aiinfra_error *err)
{
  aiinfra_runtime *rt = im->model->rt;
  aii_device_lock(rt);
  bool busy = rt->backend->observed != NULL;
  if (!busy) rt->backend->observed = &im->ops;
  aii_device_unlock(rt);
  return busy ? aii_fail(err, AIINFRA_EBUSY, "another importance matrix observes this runtime: free it first")
              : AIINFRA_OK;
}

void aiinfra_imatrix_free(aiinfra_imatrix *im)
{
  if (im == NULL) return;
  aiinfra_runtime *rt = im->model->rt;
  aiinfra_model *model = im->model;
  aii_device_lock(rt);
  if (rt->backend->observed == &im->ops) rt->backend->observed = NULL;
  aii_device_unlock(rt);
  for (size_t i = 0; i < im->n_entries; i++) {
    const entry *e = &im->entries[i];
    aii_del(&rt->mem, e->counts, e->n_mats * sizeof(double));
    aii_del(&rt->mem, e->sums, e->n_mats * e->n_in * sizeof(double));
  }
  aii_del(&rt->mem, im->entries, aii_gguf_n_tensors(model->gguf) * sizeof im->entries[0]);
  aii_del(&rt->mem, im->rows, im->row_floats * sizeof(float));
  aii_del(&rt->mem, im, sizeof *im);
  aii_model_unref(model);
}

aiinfra_status aiinfra_imatrix_create(aiinfra_model *model, aiinfra_imatrix **out, aiinfra_error *err)
{
  if (out == NULL) return aii_fail(err, AIINFRA_EINVAL, "out is NULL");
  *out = NULL;
  if (model == NULL) return aii_fail(err, AIINFRA_EINVAL, "model is NULL");
  if (model->vocab_only) return aii_fail(err, AIINFRA_ENOTSUP, "the model was opened vocab_only: it cannot run");
  if (!model->rt->backend->ops->in_place)
    return aii_fail(err, AIINFRA_ENOTSUP,
                    "an importance matrix reads activations in host memory: use a runtime on the CPU");
  aiinfra_imatrix *im = aii_new(&model->rt->mem, sizeof *im);
  if (im == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for an importance matrix");
  im->model = model;
  aii_model_ref(model);
  im->ops = *model->rt->backend->ops;
  im->ops.matmul = observed_matmul;
  im->ops.matmuls = observed_matmuls;
  im->ops.gated = observed_gated;
  im->ops.norm_matmuls = NULL; /* it looks at rows that went through their norm */
  im->ops.norm_gated = NULL;
  im->ops.gated_ids = NULL;
  im->ops.matmul_ids = observed_matmul_ids;
  aiinfra_status rc = make_entries(im, err);
  if (rc == AIINFRA_OK) rc = attach(im, err);
  if (rc != AIINFRA_OK) {
    aiinfra_imatrix_free(im);
    return rc;
  }
  *out = im;
  return AIINFRA_OK;
}

/* ---- save ------------------------------------------------------------------------------------------------------ */

static bool was_seen(const entry *e)
{
  for (size_t m = 0; m < e->n_mats; m++)
    if (e->counts[m] > 0) return true;
  return false;
}

static void put_tensor(aii_gguf_writer *w, const entry *e, const char *suffix, size_t ne0)
{
  aii_buf name;
  const uint64_t ne[2] = {ne0, e->n_mats};
  aii_buf_init(&name, w->kvs.mem, 0);
  aii_buf_add(&name, e->tensor->name.p, e->tensor->name.n);
  aii_buf_str(&name, suffix);
  w->infos.failed |= name.failed;
  aii_put_tensor(w, (aii_str){aii_buf_cstr(&name), name.len}, AII_F32, 2, ne, ne0 * e->n_mats * sizeof(float));
  aii_buf_free(&name);
}

static void add_floats(aii_buf *out, const double *v, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    float f = (float)v[i];
    aii_buf_add(out, &f, sizeof f);
  }
  while (out->len % AII_GGUF_ALIGNMENT != 0 && !out->failed) aii_buf_char(out, 0);
}

static aiinfra_status put_header(aii_gguf_writer *w, const aiinfra_imatrix *im, const char *dataset, aii_buf *out,
                                 aiinfra_error *err)
{
  double tokens = 0;
  for (size_t i = 0; i < im->n_entries; i++) tokens = AII_MAX(tokens, im->entries[i].counts[0]);
  aii_put_str(w, "general.type", (aii_str){"imatrix", 7});
  aii_put_array(w, "imatrix.datasets", AII_GGUF_STRING, 1);
  aii_put_elem_str(w, (aii_str){dataset, strlen(dataset)});
  aii_put_u32(w, "imatrix.chunk_count", (uint32_t)(tokens / CHUNK_TOKENS) + 1);
  aii_put_u32(w, "imatrix.chunk_size", CHUNK_TOKENS);
  for (size_t i = 0; i < im->n_entries; i++) {
    const entry *e = &im->entries[i];
    if (!was_seen(e)) continue;
    put_tensor(w, e, ".in_sum2", e->n_in);
    put_tensor(w, e, ".counts", 1);
  }
  if (w->n_tensors == 0)
    return aii_fail(err, AIINFRA_EINVAL, "the model has computed nothing yet: run text through it first");
  return aii_put_finish(w, out, err);
}

/* The whole file. */
static aiinfra_status put_file(const aiinfra_imatrix *im, const char *dataset, aii_buf *out, aiinfra_error *err)
{
  aii_gguf_writer w;
  aii_put_init(&w, &im->model->rt->mem);
  aiinfra_status rc = put_header(&w, im, dataset, out, err);
  aii_put_free(&w);
  for (size_t i = 0; i < im->n_entries && rc == AIINFRA_OK; i++) {
    const entry *e = &im->entries[i];
    if (!was_seen(e)) continue;
    add_floats(out, e->sums, e->n_mats * e->n_in);
    add_floats(out, e->counts, e->n_mats);
  }
  if (rc == AIINFRA_OK && out->failed)
    rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for an importance matrix of %zu bytes", out->len);
  return rc;
}

/* Under another name first, so that a file that was there is never half of a new one. */
static aiinfra_status write_file(const aii_buf *bytes, const char *path, aii_mem *mem, aiinfra_error *err)
{
  aii_buf name;
  aii_buf_init(&name, mem, 0);
  aii_buf_fmt(&name, "%s.partial", path);
  if (name.failed) {
    aii_buf_free(&name);
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for a file name");
  }
  const char *partial = aii_buf_cstr(&name);
  FILE *file = fopen(partial, "wb");
  bool ok = file != NULL && fwrite(bytes->data, 1, bytes->len, file) == bytes->len;
  int code = errno;
  if (file != NULL && fclose(file) != 0 && ok) {
    ok = false;
    code = errno;
  }
  if (ok && rename(partial, path) != 0) {
    ok = false;
    code = errno;
  }
  aiinfra_status rc = ok ? AIINFRA_OK : aii_fail_errno(err, code, "write '%s'", path);
  if (!ok && file != NULL) (void)remove(partial);
  aii_buf_free(&name);
  return rc;
}

aiinfra_status aiinfra_imatrix_save(aiinfra_imatrix *im, const char *path, const char *dataset, aiinfra_error *err)
{
  if (im == NULL || path == NULL) return aii_fail(err, AIINFRA_EINVAL, "imatrix or path is NULL");
  aii_mem *mem = &im->model->rt->mem;
  aii_buf out;
  aii_buf_init(&out, mem, 0);
  aii_device_lock(im->model->rt);
  aiinfra_status rc = im->failed != AIINFRA_OK ? aii_fail(err, im->failed, "while observing: %s", im->why.message)
                                               : put_file(im, dataset != NULL ? dataset : "", &out, err);
  aii_device_unlock(im->model->rt);
  if (rc == AIINFRA_OK) rc = write_file(&out, path, mem, err);
  aii_buf_free(&out);
  return rc;
}
