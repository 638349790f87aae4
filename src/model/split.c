/* split.c - a rank's part of a model: some heads, some of the feed-forward's width, some of the vocabulary.
 *
 * Matrices that make heads or width lose rows, those that read them lose columns: their products are then terms of sums
 * over the ranks, taken where they are added to the residual stream (forward.c). Biases of those sums stay with rank 0.
 * Afterwards the hyper-parameters count this rank's heads and widths.
 *
 * Rows are a part of the file as it lies. Columns, and rows of many matrices, are copied; the copies go when the backend has
 * a form of its own.
 */
#include "src/model/arch.h"

typedef struct splitter {
  aiinfra_model *m;
  uint32_t rank, size;
  aiinfra_error *err;
} splitter;

/* Part `rank` of n. */
static uint32_t first_of(const splitter *s, uint32_t n)
{
  return aii_part_end(n, s->rank - 1, s->size);
}

static uint32_t count_of(const splitter *s, uint32_t n)
{
  return aii_part_end(n, s->rank, s->size) - first_of(s, n);
}

static aiinfra_status keep(splitter *s, aii_weight *w, void *copy, size_t bytes)
{
  aiinfra_model *m = s->m;
  if (!aii_grow(&m->rt->mem, &m->copies, &m->copies_cap, m->n_copies + 1, sizeof *m->copies)) {
    aii_del(&m->rt->mem, copy, bytes);
    return aii_fail(s->err, AIINFRA_ENOMEM, "no memory for the parts of a model");
  }
  m->copies[m->n_copies++] = (aii_weight_copy){w, copy, bytes};
  w->source = copy;
  return AIINFRA_OK;
}

/* w becomes its rows and columns from..from + n of every matrix. */
static aiinfra_status cut(splitter *s, aii_weight *w, uint32_t row, uint32_t n_rows, uint32_t col, uint32_t n_cols)
{
  const aii_dtype_traits *type = aii_dtype_info((uint32_t)w->type);
  if (col % type->block != 0 || n_cols % type->block != 0 || n_cols == 0 || n_rows == 0)
    return aii_fail(s->err, AIINFRA_ENOTSUP, "%u columns of %s in blocks of %u do not split over %u ranks", w->n_in,
                    type->name, type->block, s->size);
  size_t whole = (size_t)w->n_in / type->block * type->block_bytes, mats = AII_MAX(w->n_mats, 1u),
         at = (size_t)col / type->block * type->block_bytes, bytes = (size_t)n_cols / type->block * type->block_bytes;
  const char *from = (const char *)w->source + row * whole + at;
  aii_weight old = *w;
  w->n_out = n_rows;
  w->n_in = n_cols;
  w->source = from;
  if (mats == 1 && (bytes == whole || n_rows == 1)) return AIINFRA_OK;
  char *copy = aii_new_raw(&s->m->rt->mem, mats * n_rows * bytes);
  if (copy == NULL)
    return aii_fail(s->err, AIINFRA_ENOMEM, "no memory for %zu bytes of a matrix", mats * n_rows * bytes);
  char *to = copy;
  for (size_t m = 0; m < mats; m++)
    for (uint32_t r = 0; r < n_rows; r++, to += bytes) memcpy(to, from + (m * old.n_out + r) * whole, bytes);
  return keep(s, w, copy, mats * n_rows * bytes);
}

/* Of a matrix that makes heads or width, or of its bias. */
static aiinfra_status rows(splitter *s, aii_weight *w)
{
  if (w->n_out == 0) return AIINFRA_OK;
  return cut(s, w, first_of(s, w->n_out), count_of(s, w->n_out), 0, w->n_in);
}

static aiinfra_status elements(splitter *s, aii_weight *w)
{
  if (w->n_out == 0) return AIINFRA_OK;
  return cut(s, w, 0, w->n_out, first_of(s, w->n_in), count_of(s, w->n_in));
}

/* Of a matrix that reads them. */
static aiinfra_status columns(splitter *s, aii_weight *w)
{
  return elements(s, w);
}

static aiinfra_status split_layer(splitter *s, aii_layer *l)
{
  aii_weight *const by_rows[] = {&l->q,         &l->k,       &l->v,           &l->gate,     &l->up,
                                 &l->gate_exps, &l->up_exps, &l->gate_shared, &l->up_shared};
  aii_weight *const by_elements[] = {&l->q_bias,    &l->k_bias,  &l->v_bias,         &l->sinks,
                                     &l->gate_bias, &l->up_bias, &l->gate_exps_bias, &l->up_exps_bias};
  aii_weight *const by_columns[] = {&l->o, &l->down, &l->down_exps, &l->down_shared};
  aii_weight *const of_the_first[] = {&l->o_bias, &l->down_bias, &l->down_exps_bias};
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; i < AII_COUNT(by_rows) && rc == AIINFRA_OK; i++) rc = rows(s, by_rows[i]);
  for (size_t i = 0; i < AII_COUNT(by_elements) && rc == AIINFRA_OK; i++) rc = elements(s, by_elements[i]);
  for (size_t i = 0; i < AII_COUNT(by_columns) && rc == AIINFRA_OK; i++) rc = columns(s, by_columns[i]);
  for (size_t i = 0; i < AII_COUNT(of_the_first) && s->rank != 0; i++) of_the_first[i]->n_out = 0;
  return rc;
}

static aiinfra_status check(const splitter *s)
{
  const aiinfra_model *m = s->m;
  const aii_hparams *hp = &m->hp;
  const struct {
    const char *what;
    uint32_t n;
  } parts[] = {{"query heads", hp->n_heads},
               {"key heads", hp->n_kv_heads},
               {"feed-forward width", hp->n_ff},
               {"width of experts", hp->n_ff_exp},
               {"width of the shared expert", hp->n_ff_shared}};
  if (hp->kv_lora != 0 || m->arch->alibi > 0 || m->arch->qk_norm == AII_QK_WIDTH ||
      (m->arch->flags & (AII_ENCODER | AII_STATIC)) != 0)
    return aii_fail(s->err, AIINFRA_ENOTSUP, "models of architecture '%s' are not split over ranks in this version",
                    m->arch->name);
  if (s->size > AII_MAX_RANKS) return aii_fail(s->err, AIINFRA_ELIMIT, "%u ranks; %d at most", s->size, AII_MAX_RANKS);
  for (size_t i = 0; i < AII_COUNT(parts); i++)
    if (parts[i].n % s->size != 0)
      return aii_fail(s->err, AIINFRA_ENOTSUP, "%s: %u is no multiple of %u ranks", parts[i].what, parts[i].n, s->size);
  return AIINFRA_OK;
}

aiinfra_status aii_split_model(aiinfra_model *m, aiinfra_error *err)
{
  if (!aii_is_split(m)) return AIINFRA_OK;
  splitter s = {m, m->rt->comm->rank, m->rt->comm->size, err};
  aii_hparams *hp = &m->hp;
  aiinfra_status rc = check(&s);
  for (uint32_t il = 0; il < hp->n_layers && rc == AIINFRA_OK; il++) rc = split_layer(&s, &m->layers[il]);
  if (m->tied) m->output = m->tok_embd;
  m->tied = false;
  m->tok_embd.lookup = true;
  if (rc == AIINFRA_OK) rc = rows(&s, &m->output);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "rank %u of %u", s.rank, s.size);
  hp->n_heads /= s.size;
  hp->n_kv_heads /= s.size;
  hp->n_ff /= s.size;
  hp->n_ff_exp /= s.size;
  hp->n_ff_shared /= s.size;
  return AIINFRA_OK;
}

void aii_split_forget(aiinfra_model *m, bool all)
{
  for (size_t i = 0; i < m->n_copies; i++) {
    aii_weight_copy *c = &m->copies[i];
    if (c->bytes == 0 || (!all && c->weight->device == NULL)) continue;
    aii_del(&m->rt->mem, c->copy, c->bytes);
    c->bytes = 0;
  }
  if (!all) return;
  aii_del(&m->rt->mem, m->copies, m->copies_cap * sizeof *m->copies);
  m->copies = NULL;
  m->n_copies = m->copies_cap = 0;
}
