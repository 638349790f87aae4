/* hf_rope.c - rotations: what a Hugging Face config says about them, as GGUF's keys and tensors of factors.
 *
 * The config has them as rope_theta and rope_scaling, or newer as rope_parameters, which may hold one object for each
 * kind of layer. Linear and YaRN become keys. Llama 3's rule is a list of factors, which are computed here as its
 * authors define them: frequencies whose waves are longer than the original context are slowed down by the factor,
 * short ones stay, and between the two borders they are blended. LongRoPE brings its lists along.
 */
#include <math.h>
#include <stdio.h>

#include "src/model/hf.h"

enum { MAX_FACTORS = 4096 };

static void put_f32(aii_hf *hf, const char *name, double value)
{
  char key[96];
  (void)snprintf(key, sizeof key, "%s.rope.%s", hf->arch->gguf, name);
  if (!isnan(value)) aii_put_f32(&hf->w, key, (float)value);
}

static void put_u32(aii_hf *hf, const char *name, uint32_t value)
{
  char key[96];
  (void)snprintf(key, sizeof key, "%s.rope.%s", hf->arch->gguf, name);
  if (value != 0) aii_put_u32(&hf->w, key, value);
}

static void put_type(aii_hf *hf, const char *type)
{
  char key[96];
  (void)snprintf(key, sizeof key, "%s.rope.scaling.type", hf->arch->gguf);
  aii_put_str(&hf->w, key, (aii_str){type, strlen(type)});
}

static double number(const json_t *object, const char *names, double fallback)
{
  const json_t *value = aii_hf_find(object, names);
  return json_is_number(value) ? json_number_value(value) : fallback;
}

static uint32_t whole(double value)
{
  return value > 0 && value < 1e9 ? (uint32_t)value : 0;
}

/* The context that the model was trained with before it was stretched. */
static double original_context(const aii_hf *hf, const json_t *scaling)
{
  const char *name = "original_max_position_embeddings";
  return number(scaling, name, aii_hf_number(hf, name, aii_hf_number(hf, "max_position_embeddings", 0)));
}

static aiinfra_status put_llama3(aii_hf *hf, const json_t *scaling, double base, uint32_t n_rot)
{
  float factors[MAX_FACTORS / 2];
  double factor = number(scaling, "factor", 8), low = number(scaling, "low_freq_factor", 1);
  double high = number(scaling, "high_freq_factor", 4),
         context = number(scaling, "original_max_position_embeddings", 8192);
  if (n_rot < 2 || n_rot > MAX_FACTORS || !(factor > 0) || !(low > 0) || !(high > low) || !(base > 1)) {
    return aii_fail(hf->err, AIINFRA_EFORMAT,
                    "config.json: the parameters of RoPE scaling 'llama3' do not fit together");
  }
  for (uint32_t i = 0; i < n_rot / 2; i++) {
    double wave = 2 * 3.14159265358979323846 * pow(base, 2.0 * i / n_rot);
    double smooth = (context / wave - low) / (high - low);
    double value = wave < context / high ? 1 : wave > context / low ? factor : 1 / ((1 - smooth) / factor + smooth);
    factors[i] = (float)value;
  }
  return aii_hf_add_numbers(hf, "rope_freqs.weight", factors, n_rot / 2);
}

static aiinfra_status put_list(aii_hf *hf, const json_t *list, const char *name, uint32_t n)
{
  float factors[MAX_FACTORS / 2];
  if (json_array_size(list) != n || n > AII_COUNT(factors)) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "config.json: the lists of RoPE scaling 'longrope' must have %u numbers",
                    n);
  }
  for (uint32_t i = 0; i < n; i++) factors[i] = (float)json_number_value(json_array_get(list, i));
  return aii_hf_add_numbers(hf, name, factors, n);
}

static aiinfra_status put_longrope(aii_hf *hf, const json_t *scaling, uint32_t n_rot)
{
  double context = original_context(hf, scaling), most = aii_hf_number(hf, "max_position_embeddings", context);
  double scale = context > 1 ? most / context : 1;
  double fallback = scale <= 1 ? 1 : sqrt(1 + log(scale) / log(context));
  put_u32(hf, "scaling.original_context_length", whole(context));
  put_f32(hf, "scaling.attn_factor", number(scaling, "attention_factor", fallback));
  aiinfra_status rc = put_list(hf, json_object_get(scaling, "long_factor"), "rope_factors_long.weight", n_rot / 2);
  if (rc != AIINFRA_OK) return rc;
  return put_list(hf, json_object_get(scaling, "short_factor"), "rope_factors_short.weight", n_rot / 2);
}

static void put_yarn(aii_hf *hf, const json_t *scaling)
{
  double all_dims = number(scaling, "mscale_all_dim", NAN);
  put_type(hf, "yarn");
  put_f32(hf, "scaling.factor", number(scaling, "factor", 1));
  put_u32(hf, "scaling.original_context_length", whole(original_context(hf, scaling)));
  put_f32(hf, "scaling.yarn_beta_fast", number(scaling, "beta_fast", NAN));
  put_f32(hf, "scaling.yarn_beta_slow", number(scaling, "beta_slow", NAN));
  /* GGUF keeps DeepSeek's value times 0.1 */
  put_f32(hf, "scaling.yarn_log_multiplier", (hf->arch->flags & HF_MLA) != 0 ? 0.1 * all_dims : all_dims);
}

static aiinfra_status put_scaling(aii_hf *hf, const json_t *scaling, double base, uint32_t n_rot)
{
  const char *type = json_string_value(aii_hf_find(scaling, "rope_type|type"));
  if (type == NULL || strcmp(type, "default") == 0) return AIINFRA_OK;
  if (strcmp(type, "llama3") == 0) return put_llama3(hf, scaling, base, n_rot);
  if (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0) return put_longrope(hf, scaling, n_rot);
  if (strcmp(type, "yarn") == 0) {
    put_yarn(hf, scaling);
    return AIINFRA_OK;
  }
  if (strcmp(type, "linear") == 0) {
    put_type(hf, "linear");
    put_f32(hf, "scaling.factor", number(scaling, "factor", 1));
    return AIINFRA_OK;
  }
  return aii_fail(hf->err, AIINFRA_ENOTSUP, "RoPE scaling '%.32s' is not known; linear, yarn, llama3 and longrope are",
                  type);
}

aiinfra_status aii_hf_put_rope(aii_hf *hf)
{
  if ((hf->arch->flags & HF_NO_ROPE) != 0) return AIINFRA_OK;
  uint32_t heads = aii_hf_count(hf, "num_attention_heads|n_head", 1), width = aii_hf_count(hf, "hidden_size|n_embd", 0);
  uint32_t head = aii_hf_count(hf, "qk_rope_head_dim|head_dim", heads > 0 ? width / heads : 0);
  double part = aii_hf_number(hf, "partial_rotary_factor|rope_parameters.partial_rotary_factor|rotary_emb_fraction", 1);
  double base = aii_hf_number(hf,
                              "rope_theta|rope_parameters.rope_theta|rope_parameters.full_attention.rope_theta|"
                              "rotary_emb_base|global_rope_theta",
                              NAN);
  double local =
      aii_hf_number(hf, "rope_local_base_freq|rope_parameters.sliding_attention.rope_theta|local_rope_theta", NAN);
  uint32_t n_rot = part > 0 && part <= 1 ? (uint32_t)(part * head) : head;
  if ((hf->arch->flags & (HF_ROTATES_ALL | HF_MLA)) != 0 || part != 1) put_u32(hf, "dimension_count", n_rot);
  put_f32(hf, "freq_base", base);
  if (local != base) put_f32(hf, "freq_base_swa", local);
  const json_t *scaling = aii_hf_find(hf->text, "rope_scaling|rope_parameters.full_attention|rope_parameters");
  return put_scaling(hf, scaling, isnan(base) ? 10000 : base, n_rot);
}
