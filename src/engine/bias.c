/* bias.c - what changes the logits of single tokens: penalties as options, logit_bias as JSON.
 *
 * The happy path is: read {"token id": number, ...} into an array, make a penalty with room for the whole sequence. A
 * request that asks for neither has none. Malformed JSON, a token that is not in the vocabulary, a number out of range:
 * EINVAL, and the message begins with the field's name. Any thread: touches nothing but the gen.
 */
#include "src/engine/engine.h"
#include "lib/json/json.h"

enum { MAX_DEPTH = 4, MAX_DIGITS = 9 };
static const double most = 100.0;

/* A plain decimal without leading zeros, so that no token has two names. */
static bool read_token(const char *key, uint32_t n_vocab, aiinfra_token *out)
{
  static const char digits[] = "0123456789";
  size_t n = strspn(key, digits);
  uint32_t id = 0;
  if (n == 0 || n > MAX_DIGITS || key[n] != '\0' || (n > 1 && key[0] == '0')) return false;
  for (size_t i = 0; i < n; i++) id = id * 10 + (uint32_t)(key[i] - '0');
  *out = (aiinfra_token)id;
  return id < n_vocab;
}

static aiinfra_status read_biases(const json_t *root, uint32_t n_vocab, aii_bias *biases, size_t *n, aiinfra_error *err)
{
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)(uintptr_t)root, key, value)
  {
    double add = json_number_value(value);
    if (!read_token(key, n_vocab, &biases[*n].token))
      return aii_fail(err, AIINFRA_EINVAL, "logit_bias: \"%.32s\" is no token of the vocabulary, which has %u", key,
                      n_vocab);
    if (!json_is_number(value) || !(add >= -most && add <= most))
      return aii_fail(err, AIINFRA_EINVAL, "logit_bias: token %s needs a number between %g and %g", key, -most, most);
    biases[(*n)++].add = (float)add;
  }
  return AIINFRA_OK;
}

static aiinfra_status parse(const char *text, uint32_t n_vocab, aii_bias *biases, size_t *n, aiinfra_error *err)
{
  json_t *root = NULL;
  aiinfra_status rc = aii_json_parse(text, strlen(text), "logit_bias", MAX_DEPTH, &root, err);
  if (rc == AIINFRA_EFORMAT) {
    rc = AIINFRA_EINVAL;
    if (err != NULL) err->status = (int32_t)rc;
  }
  if (rc != AIINFRA_OK) return rc;
  if (!json_is_object(root))
    rc = aii_fail(err, AIINFRA_EINVAL, "logit_bias: expected an object, found %s", aii_json_type(root));
  else if (json_object_size(root) > AII_MAX_BIASES)
    rc = aii_fail(err, AIINFRA_EINVAL, "logit_bias: %zu tokens, at most %d are allowed", json_object_size(root),
                  AII_MAX_BIASES);
  if (rc == AIINFRA_OK) rc = read_biases(root, n_vocab, biases, n, err);
  json_decref(root);
  return rc;
}

aiinfra_status aii_gen_make_penalty(aii_gen *gen, aiinfra_error *err)
{
  const aii_penalties *how = &gen->penalties;
  const aiinfra_model *model = gen->batcher->model;
  const char *text = gen->input.logit_bias;
  aii_bias biases[AII_MAX_BIASES];
  aiinfra_status rc = AIINFRA_OK;
  aii_penalty_want want = {.how = *how,
                           .biases = biases,
                           .n_vocab = AII_MIN(model->hp.n_vocab, aii_vocab_size(model->vocab)),
                           .n_prompt = gen->seq.n_prompt,
                           .max_total = gen->seq.max_total};
  if (text != NULL) rc = parse(text, want.n_vocab, biases, &want.n_biases, err);
  bool repeats = how->repeat != 0 && how->repeat != 1;
  if (rc != AIINFRA_OK || (want.n_biases == 0 && !repeats && how->presence == 0 && how->frequency == 0)) return rc;
  want.n_vocab = model->hp.n_vocab; /* the model may generate tokens that its vocabulary does not name */
  return aii_penalty_create(&gen->batcher->rt->mem, &want, &gen->penalty, err);
}
