/* hf_tensors.c - the tensors of a Hugging Face folder become those of a GGUF file: renamed, and reshaped as views.
 *
 * Each tensor of the shards finds its entry in the table of names, which says what must happen to it. Nothing is moved:
 * a new order of elements is a view with other strides, experts are one view each, fused tensors two views of one. All
 * shapes are checked against each other here, so that reading a view later cannot leave the file. Types: vectors,
 * biases, routers and positions become F32, matrices stay as they are.
 */
#include <stdio.h>

#include "src/model/hf.h"

/* One tensor of a shard, and where it goes. */
typedef struct job {
  aii_hf *hf;
  const aii_st_tensor *src;
  const aii_hf_name *name;
  uint32_t layer, expert;
  aii_str suffix;
} job;

static aiinfra_status bad_shape(const job *j)
{
  return aii_fail(j->hf->err, AIINFRA_EFORMAT, "tensor '%.*s': its shape does not fit the config",
                  AII_SHOW(j->src->name));
}

/* ---- results ------------------------------------------------------------------------------------------------------ */

aii_view *aii_hf_add_out(aii_hf *hf, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne, size_t n)
{
  aii_gguf *g = hf->gguf;
  if (!aii_grow(hf->mem, &hf->outs, &hf->cap_outs, hf->n_outs + 1, sizeof hf->outs[0]) ||
      !aii_grow(hf->mem, &g->gathers, &g->cap_gathers, g->n_gathers + 1, sizeof g->gathers[0]) ||
      !aii_grow(hf->mem, &g->views, &g->cap_views, g->n_views + n, sizeof g->views[0])) {
    (void)aii_fail(hf->err, AIINFRA_ENOMEM, "no memory for an index of %zu tensors", hf->n_outs + 1);
    return NULL;
  }
  aii_hf_out *out = &hf->outs[hf->n_outs++];
  *out = (aii_hf_out){.type = type, .n_dims = n_dims, .ne = {1, 1, 1, 1}};
  (void)snprintf(out->name, sizeof out->name, "%s", name);
  for (uint32_t d = 0; d < n_dims; d++) out->ne[d] = ne[d];
  g->gathers[g->n_gathers++] = (aii_gather){.first = g->n_views, .n = n};
  aii_view *views = &g->views[g->n_views];
  memset(views, 0, n * sizeof *views);
  g->n_views += n;
  return views;
}

aiinfra_status aii_hf_add_numbers(aii_hf *hf, const char *name, const float *values, uint32_t n)
{
  uint64_t ne[1] = {n};
  aii_view *view = aii_hf_add_out(hf, name, AII_F32, 1, ne, 1);
  if (view == NULL) return AIINFRA_ENOMEM;
  aii_buf *numbers = &hf->gguf->numbers;
  /* the buffer may move as it grows: the view gets its offset now, its address when all is there */
  *view = (aii_view){.data = NULL, .type = AII_F32, .n = {n, 1, 1, 1}, .stride = {1, numbers->len, 0, 0}};
  aii_buf_add(numbers, values, n * sizeof *values);
  return numbers->failed ? aii_fail(hf->err, AIINFRA_ENOMEM, "no memory for %u numbers", n) : AIINFRA_OK;
}

static void settle_numbers(aii_gguf *g)
{
  for (size_t i = 0; i < g->n_views; i++) {
    aii_view *v = &g->views[i];
    if (v->data != NULL) continue;
    v->data = (const uint8_t *)g->numbers.data + v->stride[1];
    v->stride[1] = 0;
  }
}

static bool ends_with(const char *s, const char *end)
{
  size_t n = strlen(s), m = strlen(end);
  return n >= m && strcmp(s + n - m, end) == 0;
}

/* The name in GGUF, made of the table's entry or, where one tensor becomes several, of `to`. */
static void name_of(const job *j, const char *to, char out[64])
{
  bool layer = strchr(j->name->from, '*') != NULL;
  if (layer) (void)snprintf(out, 64, "blk.%u.%s%.*s", j->layer, to, (int)j->suffix.n, j->suffix.p);
  else (void)snprintf(out, 64, "%s%.*s", to, (int)j->suffix.n, j->suffix.p);
}

static uint32_t stored_type(const char *name, uint32_t n_dims, int32_t src)
{
  bool router = strstr(name, "ffn_gate_inp") != NULL || strcmp(name, "position_embd.weight") == 0 ||
                strcmp(name, "token_types.weight") == 0;
  if (n_dims == 1 || src == AII_F64 || router || !ends_with(name, ".weight")) return AII_F32;
  return (uint32_t)src;
}

/* Adds a result with one view that covers it; the caller sets strides other than those of its own shape. */
static aii_view *add(const job *j, const char *to, uint32_t n_dims, const uint64_t *ne)
{
  char name[64];
  name_of(j, to, name);
  uint32_t type = stored_type(name, n_dims, j->src->type);
  aii_view *v = aii_hf_add_out(j->hf, name, type, n_dims, ne, 1);
  if (v == NULL) return NULL;
  *v = (aii_view){.data = j->src->data, .type = (uint32_t)j->src->type, .n = {1, 1, 1, 1}, .stride = {1, 1, 1, 1}};
  for (uint32_t d = 0; d < n_dims; d++) v->n[d] = ne[d];
  for (uint32_t d = 1; d < AII_VIEW_DIMS; d++) v->stride[d] = v->stride[d - 1] * v->n[d - 1];
  bool norm = ends_with(name, "norm.weight") && (j->hf->arch->flags & HF_NORM_PLUS) != 0;
  j->hf->gguf->gathers[j->hf->gguf->n_gathers - 1].add = norm ? 1.0f : 0.0f;
  return v;
}

static size_t elem_bytes(const job *j)
{
  return j->src->type == AII_F64 ? 8 : j->src->type == AII_F32 ? 4 : 2;
}

/* The shape as GGUF has it: turned round, without leading ones ([1, n] is a vector). */
static uint32_t turned(const aii_st_tensor *src, uint64_t ne[4])
{
  uint32_t n = 0;
  for (uint32_t d = src->n_dims; d > 0 && n < 4; d--) ne[n++] = src->shape[d - 1];
  if (n == 0) ne[n++] = 1;
  while (n > 1 && ne[n - 1] == 1) n--;
  return n;
}

/* ---- what happens to a tensor ----------------------------------------------------------------------------------------- */

static aiinfra_status copy(const job *j)
{
  uint64_t ne[4];
  if (j->src->n_dims > 4) return bad_shape(j);
  uint32_t n = turned(j->src, ne);
  return add(j, j->name->to, n, ne) != NULL ? AIINFRA_OK : AIINFRA_ENOMEM;
}

/* Within each head, row i and row i + half become neighbours. */
static aiinfra_status rope(const job *j)
{
  bool query = j->name->how == HF_ROPE_Q;
  if ((j->hf->arch->flags & HF_PERMUTED) == 0) return copy(j);
  uint64_t ne[4], heads = aii_hf_count(j->hf, "num_attention_heads", 0);
  if (!query) heads = aii_hf_count(j->hf, "num_key_value_heads", (uint32_t)heads);
  if (j->src->n_dims < 1 || j->src->n_dims > 2) return bad_shape(j);
  uint32_t n = turned(j->src, ne);
  uint64_t width = n == 2 ? ne[0] : 1, rows = n == 2 ? ne[1] : ne[0];
  if (heads == 0 || rows % (2 * heads) != 0) return bad_shape(j);
  aii_view *v = add(j, j->name->to, n, ne);
  if (v == NULL) return AIINFRA_ENOMEM;
  uint64_t half = rows / heads / 2;
  *v = (aii_view){.data = v->data,
                  .type = v->type,
                  .n = {width, 2, half, heads},
                  .stride = {1, half * width, width, 2 * half * width}};
  return AIINFRA_OK;
}

/* The last two dimensions change places; a vector stays. */
static aiinfra_status transposed(const job *j)
{
  uint64_t ne[4];
  if (j->src->n_dims < 2) return copy(j);
  if (j->src->n_dims > 3) return bad_shape(j);
  uint32_t n = j->src->n_dims;
  for (uint32_t d = 0; d < n; d++) ne[d] = j->src->shape[n - 1 - d];
  uint64_t in = ne[1], out = ne[0];
  ne[0] = in;
  ne[1] = out;
  aii_view *v = add(j, j->name->to, n, ne);
  if (v == NULL) return AIINFRA_ENOMEM;
  v->stride[0] = out;
  v->stride[1] = 1;
  return AIINFRA_OK;
}

static size_t find_out(const aii_hf *hf, const char *name)
{
  size_t i = hf->n_outs;
  while (i > 0 && strcmp(hf->outs[i - 1].name, name) != 0) i--;
  return i; /* plus one; 0: there is none */
}

static aiinfra_status expert(const job *j)
{
  char name[64];
  aii_hf *hf = j->hf;
  uint32_t n = aii_hf_count(hf, "num_local_experts|num_experts|n_routed_experts", 0);
  if (j->src->n_dims != 2 || j->expert >= n) return bad_shape(j);
  name_of(j, j->name->to, name);
  uint64_t ne[3] = {j->src->shape[1], j->src->shape[0], n};
  size_t at = find_out(hf, name);
  if (at == 0) {
    /* as many experts as there are tensors at most, so that a config cannot make us allocate at will */
    size_t most = 0;
    for (size_t s = 0; s < hf->n_shards; s++) most += hf->shards[s].n;
    if (n > most) return bad_shape(j);
    if (aii_hf_add_out(hf, name, stored_type(name, 3, j->src->type), 3, ne, n) == NULL) return AIINFRA_ENOMEM;
    at = hf->n_outs;
  }
  aii_hf_out *out = &hf->outs[at - 1];
  aii_view *v = &hf->gguf->views[hf->gguf->gathers[at - 1].first + j->expert];
  if (v->data != NULL || out->ne[0] != ne[0] || out->ne[1] != ne[1] ||
      out->type != stored_type(name, 3, j->src->type)) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "tensor '%.*s': experts of one layer must be alike, and each there once",
                    AII_SHOW(j->src->name));
  }
  out->n_filled++;
  *v = (aii_view){
      .data = j->src->data, .type = (uint32_t)j->src->type, .n = {ne[0], ne[1], 1, 1}, .stride = {1, ne[0], 0, 0}};
  return AIINFRA_OK;
}

/* Two results from one tensor: `part` 0 is the gate, 1 is up. */
static aiinfra_status gate_up(const job *j)
{
  static const char *const prefixes[2] = {"ffn_gate_", "ffn_up_"};
  aii_hf_how how = j->name->how;
  const uint64_t *shape = j->src->shape;
  bool bias = how == HF_GATE_UP_BIAS, turned_round = how == HF_GATE_UP_T;
  if (j->src->n_dims != (bias ? 2 : 3)) return bad_shape(j);
  uint64_t n = shape[0], both = turned_round ? shape[2] : shape[1], in = bias ? 1 : turned_round ? shape[1] : shape[2];
  if (both % 2 != 0) return bad_shape(j);
  for (uint32_t part = 0; part < 2; part++) {
    char to[32];
    uint64_t half = both / 2, ne[3] = {in, half, n}, ne_bias[2] = {half, n};
    (void)snprintf(to, sizeof to, "%s%s", prefixes[part], j->name->to);
    aii_view *v = bias ? add(j, to, 2, ne_bias) : add(j, to, 3, ne);
    if (v == NULL) return AIINFRA_ENOMEM;
    uint64_t strides[3] = {bias ? 2 : turned_round ? both : 1, bias ? both : turned_round ? 2 : in, both * in};
    for (uint32_t d = 0; d < (bias ? 2 : 3); d++) v->stride[d] = strides[d];
    v->data += part * elem_bytes(j) * (how == HF_GATE_UP ? half * in : 1);
  }
  return AIINFRA_OK;
}

static const aii_st_tensor *find_source(const aii_hf *hf, const char *name, size_t n)
{
  uint32_t at;
  for (size_t i = 0; i < hf->n_shards; i++) {
    if (aii_map_get(&hf->shards[i].names, name, n, &at)) return &hf->shards[i].tensors[at];
  }
  return NULL;
}

/* The scales that belong to "..._blocks". */
static const aii_st_tensor *find_scales(const job *j)
{
  char name[256];
  size_t n = j->src->name.n;
  if (n < 6 || n >= sizeof name) return NULL;
  memcpy(name, j->src->name.p, n);
  memcpy(name + n - 6, "scales", 6);
  return find_source(j->hf, name, n);
}

static aiinfra_status mxfp4(const job *j)
{
  static const char *const prefixes[2] = {"ffn_gate_", "ffn_up_"};
  const uint64_t *shape = j->src->shape;
  const aii_st_tensor *scales = find_scales(j);
  bool pair = j->name->how == HF_MXFP4_GATE_UP;
  uint64_t parts = pair ? 2 : 1;
  bool good = j->src->n_dims == 4 && shape[3] == 16 && strcmp(j->src->dtype, "U8") == 0 && shape[1] % parts == 0 &&
              scales != NULL && scales->n_dims == 3 && strcmp(scales->dtype, "U8") == 0 &&
              memcmp(scales->shape, shape, 3 * sizeof shape[0]) == 0;
  if (!good) return bad_shape(j);
  for (uint64_t part = 0; part < parts; part++) {
    char to[32], name[64];
    uint64_t ne[3] = {32 * shape[2], shape[1] / parts, shape[0]};
    (void)snprintf(to, sizeof to, "%s%s", pair ? prefixes[part] : "", j->name->to);
    name_of(j, to, name);
    aii_view *v = aii_hf_add_out(j->hf, name, AII_MXFP4, 3, ne, 2);
    if (v == NULL) return AIINFRA_ENOMEM;
    j->hf->gguf->gathers[j->hf->gguf->n_gathers - 1].mxfp4 = true;
    v[0] = (aii_view){.data = j->src->data + part * shape[2] * 16,
                      .type = AII_MXFP4,
                      .n = {shape[2], ne[1], ne[2], 1},
                      .stride = {1, parts * shape[2], shape[1] * shape[2], 0}};
    v[1] = v[0];
    v[1].data = scales->data + part * shape[2];
  }
  return AIINFRA_OK;
}

/* [heads x (nope + v), lora] -> the keys' part of each head turned round, the values' part as it is. */
static aiinfra_status kv_b(const job *j)
{
  uint64_t heads = aii_hf_count(j->hf, "num_attention_heads", 0), nope = aii_hf_count(j->hf, "qk_nope_head_dim", 0);
  uint64_t value = aii_hf_count(j->hf, "v_head_dim", 0), lora = j->src->shape[1];
  if (j->src->n_dims != 2 || heads == 0 || nope == 0 || value == 0 || j->src->shape[0] % heads != 0 ||
      j->src->shape[0] / heads != nope + value) {
    return bad_shape(j);
  }
  uint64_t k[3] = {nope, lora, heads}, v[3] = {lora, value, heads}, head = (nope + value) * lora;
  aii_view *view = add(j, "attn_k_b.weight", 3, k);
  if (view == NULL) return AIINFRA_ENOMEM;
  view->stride[0] = lora;
  view->stride[1] = 1;
  view->stride[2] = head;
  view = add(j, "attn_v_b.weight", 3, v);
  if (view == NULL) return AIINFRA_ENOMEM;
  view->stride[2] = head;
  view->data += nope * lora * elem_bytes(j);
  return AIINFRA_OK;
}

static aiinfra_status positions(const job *j)
{
  uint64_t offset = (uint64_t)aii_hf_count(j->hf, "pad_token_id", 1) + 1;
  if (j->src->n_dims != 2 || j->src->shape[0] <= offset) return bad_shape(j);
  uint64_t ne[2] = {j->src->shape[1], j->src->shape[0] - offset};
  aii_view *v = add(j, j->name->to, 2, ne);
  if (v == NULL) return AIINFRA_ENOMEM;
  v->data += offset * ne[0] * elem_bytes(j);
  return AIINFRA_OK;
}

static aiinfra_status up_gate(const job *j)
{
  static const char *const to[2] = {"ffn_up", "ffn_gate"};
  uint64_t in = j->src->shape[1], half = j->src->shape[0] / 2, ne[2] = {in, half};
  if (j->src->n_dims != 2 || half == 0 || j->src->shape[0] % 2 != 0) return bad_shape(j);
  for (uint32_t part = 0; part < 2; part++) {
    aii_view *v = add(j, to[part], 2, ne);
    if (v == NULL) return AIINFRA_ENOMEM;
    v->data += part * half * in * elem_bytes(j);
  }
  return AIINFRA_OK;
}

static aiinfra_status static_vectors(const job *j)
{
  return aii_hf_put_static(j->hf, j->src, find_source(j->hf, "weights", 7), find_source(j->hf, "mapping", 7));
}

static aiinfra_status convert(const job *j)
{
  switch (j->name->how) {
    case HF_SKIP: return AIINFRA_OK;
    case HF_COPY: return copy(j);
    case HF_ROPE_Q:
    case HF_ROPE_K: return rope(j);
    case HF_TRANSPOSED:
    case HF_STACK_T: return transposed(j);
    case HF_EXPERT: return expert(j);
    case HF_GATE_UP:
    case HF_GATE_UP_T:
    case HF_GATE_UP_BIAS: return gate_up(j);
    case HF_MXFP4:
    case HF_MXFP4_GATE_UP: return mxfp4(j);
    case HF_KV_B: return kv_b(j);
    case HF_POSITIONS: return positions(j);
    case HF_UP_GATE: return up_gate(j);
    case HF_STATIC: return static_vectors(j);
  }
  return AIINFRA_OK;
}

/* ---- all of them -------------------------------------------------------------------------------------------------------- */

static bool is_output(const aii_hf_name *name)
{
  return strcmp(name->to, "output") == 0;
}

static aiinfra_status one_tensor(aii_hf *hf, const aii_st_tensor *src)
{
  uint32_t numbers[2] = {0, 0};
  job j = {.hf = hf, .src = src};
  j.name = aii_hf_find_name(hf->arch, src->name, numbers, &j.suffix);
  if (j.name == NULL) {
    return aii_fail(hf->err, AIINFRA_ENOTSUP, "tensor '%.*s' is not one that a '%s' has in this version",
                    AII_SHOW(src->name), hf->arch->name);
  }
  j.layer = numbers[0];
  j.expert = numbers[1];
  bool layer = strchr(j.name->from, '*') != NULL;
  bool beyond = layer && j.layer >= aii_hf_count(hf, "num_hidden_layers|n_layer|n_layers|num_layers", UINT32_MAX);
  if (j.name->how == HF_SKIP || beyond || (is_output(j.name) && (hf->arch->flags & HF_NO_OUTPUT) != 0)) {
    return AIINFRA_OK; /* layers beyond the last one predict further tokens, which this version does not use */
  }
  bool numbers_only = src->type == AII_F32 || src->type == AII_F16 || src->type == AII_BF16 || src->type == AII_F64;
  if (!numbers_only && j.name->how != HF_MXFP4 && j.name->how != HF_MXFP4_GATE_UP && j.name->how != HF_STATIC) {
    return aii_fail(hf->err, AIINFRA_ENOTSUP, "tensor '%.*s' is %s; weights must be F32, F16, BF16 or F64",
                    AII_SHOW(src->name), src->dtype);
  }
  if (src->bytes == 0) return bad_shape(&j);
  return convert(&j);
}

static aiinfra_status put_out(aii_hf *hf, size_t i)
{
  const aii_hf_out *out = &hf->outs[i];
  const aii_gather *how = &hf->gguf->gathers[i];
  const aii_dtype_traits *traits = aii_gguf_type_info(out->type);
  if (out->n_filled != 0 && out->n_filled != how->n) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "tensor '%s': %u of %zu experts are there", out->name, out->n_filled,
                    how->n);
  }
  uint64_t n = out->ne[0] * out->ne[1] * out->ne[2] * out->ne[3];
  if (strcmp(out->name, "token_embd.weight") == 0 && out->ne[1] <= INT32_MAX) hf->n_vocab = (uint32_t)out->ne[1];
  aii_put_tensor(&hf->w, (aii_str){out->name, strlen(out->name)}, out->type, out->n_dims, out->ne,
                 n / traits->block * traits->block_bytes);
  return AIINFRA_OK;
}

/* As files call it: the type of the first matrix. */
static uint32_t file_type(const aii_hf *hf)
{
  for (size_t i = 0; i < hf->n_outs; i++) {
    if (hf->outs[i].n_dims < 2 || hf->outs[i].type == AII_F32) continue;
    return hf->outs[i].type == AII_F16 ? 1 : hf->outs[i].type == AII_BF16 ? 32 : 38;
  }
  return 0;
}

aiinfra_status aii_hf_put_tensors(aii_hf *hf)
{
  aiinfra_status rc = AIINFRA_OK;
  for (size_t s = 0; s < hf->n_shards; s++) {
    for (size_t i = 0; i < hf->shards[s].n && rc == AIINFRA_OK; i++) rc = one_tensor(hf, &hf->shards[s].tensors[i]);
  }
  if (rc != AIINFRA_OK) return rc;
  settle_numbers(hf->gguf);
  aii_put_u32(&hf->w, "general.file_type", file_type(hf));
  aii_put_u32(&hf->w, "general.quantization_version", 2);
  for (size_t i = 0; i < hf->n_outs && rc == AIINFRA_OK; i++) rc = put_out(hf, i);
  return rc;
}
