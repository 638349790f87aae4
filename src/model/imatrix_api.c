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
#include "src/model/model.h"

enum { ROW_FLOATS = 1 << 16, CHUNK_TOKENS = 512 };

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

static void observe(aiinfra_imatrix *im, const aii_weight *w, const float *x, size_t n_rows)
{
  aii_backend *be = im->model->rt->backend;
  entry *e = find_entry(im, w->source);
  if (e == NULL || e->n_in != w->n_in) return;
  size_t group = im->row_floats / e->n_in;
  for (size_t r = 0; r < n_rows && im->failed == AIINFRA_OK; r += group) {
    size_t n = AII_MIN(group, n_rows - r);
    im->failed = be->ops->to_host(be, im->rows, x + r * e->n_in, n * e->n_in * sizeof *x, &im->why);
    for (size_t i = 0; i < n && im->failed == AIINFRA_OK; i++) add_row(e, 0, im->rows + i * e->n_in);
  }
}

static void observed_matmul(aii_backend *be, const aii_weight *w, const aii_weight *bias, const float *x,
                            uint32_t n_rows, bool accumulate, float *y)
{
  observe(AII_CONTAINER((aii_backend_ops *)(uintptr_t)be->observed, aiinfra_imatrix, ops), w, x, n_rows);
  be->ops->matmul(be, w, bias, x, n_rows, accumulate, y);
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
    if (e->counts == NULL || e->sums == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for an importance matrix");
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
  aiinfra_imatrix *im = aii_new(&model->rt->mem, sizeof *im);
  if (im == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for an importance matrix");
  im->model = model;
  aii_model_ref(model);
  im->ops = *model->rt->backend->ops;
  im->ops.matmul = observed_matmul;
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

static void put_tensor(aii_gguf_writer *w, const entry *e, const char *suffix, uint64_t ne0)
{
  char name[256];
  uint64_t ne[2] = {ne0, e->n_mats};
  int n = snprintf(name, sizeof name, "%.*s%s", (int)e->tensor->name.n, e->tensor->name.p, suffix);
  aii_put_tensor(w, (aii_str){name, (size_t)n}, AII_F32, 2, ne, ne0 * e->n_mats * sizeof(float));
}
