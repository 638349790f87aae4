/* hf_static.c - the vectors of a static model (model2vec), of which a text's embedding is the mean over its tokens.
 *
 * Token t has the vector weights[t] * vectors[mapping[t]]. Without weights and without mapping the vectors are taken as
 * they lie in the file; else they are computed here, once, so that all that comes later sees one matrix with a row for
 * each token. The sizes that the config does not tell, or tells wrongly, come from the tensors.
 */
#include <math.h>

#include "kernels/kernels.h"
#include "src/model/arch.h"
#include "src/model/hf.h"

enum { MOST_CONTEXT = 1 << 16 }; /* tokens of a text; what the config says is no more than "any" */

static const char name[] = "token_embd.weight";

/* False: no number. */
static bool number_at(const aii_st_tensor *t, uint64_t i, double *out)
{
  float f;
  switch (t->type) {
    case AII_F32: return aii_gguf_elem_f64(AII_GGUF_F32, t->data, i, out);
    case AII_F64: return aii_gguf_elem_f64(AII_GGUF_F64, t->data, i, out);
    case AII_I8: return aii_gguf_elem_f64(AII_GGUF_I8, t->data, i, out);
    case AII_I16: return aii_gguf_elem_f64(AII_GGUF_I16, t->data, i, out);
    case AII_I32: return aii_gguf_elem_f64(AII_GGUF_I32, t->data, i, out);
    case AII_I64: return aii_gguf_elem_f64(AII_GGUF_I64, t->data, i, out);
    case AII_F16: aii_kernels_ref.dequant[AII_FMT_F16](t->data + 2 * i, 1, &f); break;
    case AII_BF16: aii_kernels_ref.dequant[AII_FMT_BF16](t->data + 2 * i, 1, &f); break;
    default: return false;
  }
  *out = (double)f;
  return true;
}

/* Row `token` of the result, a float at a time. */
static aiinfra_status put_row(aii_hf *hf, const aii_st_tensor *vectors, const aii_st_tensor *weights,
                              const aii_st_tensor *mapping, uint64_t token)
{
  double row = (double)token, weight = 1, value = 0;
  uint64_t width = vectors->shape[1];
  if (mapping != NULL && (!number_at(mapping, token, &row) || !(row >= 0 && row < (double)vectors->shape[0])))
    return aii_fail(hf->err, AIINFRA_EFORMAT, "tensor 'mapping': token %llu has no row among the %llu of 'embeddings'",
                    (unsigned long long)token, (unsigned long long)vectors->shape[0]);
  if (weights != NULL && (!number_at(weights, token, &weight) || !isfinite(weight)))
    return aii_fail(hf->err, AIINFRA_EFORMAT, "tensor 'weights': that of token %llu is no finite number",
                    (unsigned long long)token);
  for (uint64_t i = 0; i < width; i++) {
    (void)number_at(vectors, (uint64_t)row * width + i, &value);
    float f = (float)(weight * value);
    aii_buf_add(&hf->gguf->numbers, &f, sizeof f);
  }
  return AIINFRA_OK;
}

/* Nothing is computed that could not be used: a few bytes of mapping may ask for very many rows. */
static aiinfra_status check_room(aii_hf *hf, uint64_t n_tokens, uint64_t width)
{
  uint64_t bytes, total = aii_memory_total();
  bool fits = !__builtin_mul_overflow(n_tokens, width * sizeof(float), &bytes) && bytes <= SIZE_MAX / 4;
  if (fits && (total == 0 || bytes <= total)) return AIINFRA_OK;
  return aii_fail(hf->err, AIINFRA_ENOMEM,
                  "%llu vectors of %llu numbers do not fit in memory: this process may have "
                  "%llu bytes; use a smaller model",
                  (unsigned long long)n_tokens, (unsigned long long)width, (unsigned long long)total);
}

static aiinfra_status compute(aii_hf *hf, const aii_st_tensor *vectors, const aii_st_tensor *weights,
                              const aii_st_tensor *mapping, const uint64_t ne[2])
{
  aii_buf *numbers = &hf->gguf->numbers;
  aiinfra_status rc = check_room(hf, ne[1], ne[0]);
  if (rc != AIINFRA_OK) return rc;
  aii_view *view = aii_hf_add_out(hf, name, AII_F32, 2, ne, 1);
  if (view == NULL) return AIINFRA_ENOMEM;
  /* gets its address when the buffer no longer moves */
  *view = (aii_view){.data = NULL, .type = AII_F32, .n = {ne[0] * ne[1], 1, 1, 1}, .stride = {1, numbers->len, 0, 0}};
  for (uint64_t t = 0; t < ne[1] && rc == AIINFRA_OK && !numbers->failed; t++)
    rc = put_row(hf, vectors, weights, mapping, t);
  if (rc == AIINFRA_OK && numbers->failed)
    rc = aii_fail(hf->err, AIINFRA_ENOMEM, "no memory for %llu vectors of %llu numbers", (unsigned long long)ne[1],
                  (unsigned long long)ne[0]);
  return rc;
}

static void put_keys(aii_hf *hf, uint64_t width)
{
  aii_put_u32(&hf->w, "model2vec.context_length",
              AII_MIN(AII_MAX(aii_hf_count(hf, "seq_length", MOST_CONTEXT), 1u), (uint32_t)MOST_CONTEXT));
  aii_put_u32(&hf->w, "model2vec.embedding_length", (uint32_t)width);
  aii_put_u32(&hf->w, "model2vec.block_count", 0);
  aii_put_u32(&hf->w, "model2vec.pooling_type", 1);
}

aiinfra_status aii_hf_put_static(aii_hf *hf, const aii_st_tensor *vectors, const aii_st_tensor *weights,
                                 const aii_st_tensor *mapping)
{
  const aii_st_tensor *by_token = mapping != NULL ? mapping : vectors;
  bool plain = weights == NULL && mapping == NULL;
  double any;
  if (vectors->n_dims != 2 || (mapping != NULL && mapping->n_dims != 1) ||
      (weights != NULL && (weights->n_dims != 1 || weights->shape[0] != by_token->shape[0])) ||
      vectors->shape[1] > UINT32_MAX || by_token->bytes == 0)
    return aii_fail(hf->err, AIINFRA_EFORMAT,
                    "the shapes of 'embeddings', 'weights' and 'mapping' do not fit together");
  if (!number_at(vectors, 0, &any))
    return aii_fail(hf->err, AIINFRA_ENOTSUP, "tensor 'embeddings' is %s, which this version does not read",
                    vectors->dtype);
  const uint64_t ne[2] = {vectors->shape[1], by_token->shape[0]};
  put_keys(hf, ne[0]);
  if (!plain || (vectors->type != AII_F32 && vectors->type != AII_F16 && vectors->type != AII_BF16))
    return compute(hf, vectors, weights, mapping, ne);
  aii_view *view = aii_hf_add_out(hf, name, (uint32_t)vectors->type, 2, ne, 1);
  if (view == NULL) return AIINFRA_ENOMEM;
  *view = (aii_view){
      .data = vectors->data, .type = (uint32_t)vectors->type, .n = {ne[0] * ne[1], 1, 1, 1}, .stride = {1, 0, 0, 0}};
  return AIINFRA_OK;
}
