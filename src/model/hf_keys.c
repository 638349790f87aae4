/* hf_keys.c - a Hugging Face config becomes the keys of a GGUF file: hyper-parameters, as the table of names says.
 *
 * What no table can say stands below it: defaults that depend on other values, lists by layer, pooling, sampling.
 */
#include <math.h>
#include <stdio.h>

#include "src/model/hf.h"

/* "ARCH.NAME" */
static const char *full_key(const aii_hf *hf, const char *name, char out[96])
{
  (void)snprintf(out, 96, "%s.%s", hf->arch->gguf, name);
  return out;
}

/* Some configs name a window that is not used. */
static bool has_window(const aii_hf *hf)
{
  return !json_is_false(json_object_get(hf->text, "use_sliding_window"));
}

static aiinfra_status put_one(aii_hf *hf, const aii_hf_key *key)
{
  char name[96];
  const json_t *value = aii_hf_find(hf->text, key->from);
  if (strcmp(key->key, "attention.sliding_window") == 0 && !has_window(hf)) return AIINFRA_OK;
  double number = json_is_boolean(value)  ? json_is_true(value)
                  : json_is_number(value) ? json_number_value(value)
                                          : key->fallback;
  if (isnan(number)) return AIINFRA_OK;
  full_key(hf, key->key, name);
  if (key->kind == 'f') {
    aii_put_f32(&hf->w, name, (float)number);
  } else if (key->kind == 'b') {
    aii_put_bool(&hf->w, name, number != 0);
  } else if (number < 0 || number > (double)UINT32_MAX || number != floor(number)) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "config.json: '%s' must be a whole number", key->from);
  } else {
    aii_put_u32(&hf->w, name, (uint32_t)number);
  }
  return AIINFRA_OK;
}

static bool in_keys(const aii_hf_key *keys, const char *key)
{
  for (; keys != NULL && keys->key != NULL; keys++) {
    if (strcmp(keys->key, key) == 0) return true;
  }
  return false;
}

/* Written below, not by the table. */
static bool is_special(const aii_hf *hf, const char *key)
{
  if ((hf->arch->flags & HF_OFFSET) != 0 && strcmp(key, "context_length") == 0) return true;
  if ((hf->arch->flags & HF_MLA) == 0) return false;
  return strcmp(key, "attention.head_count_kv") == 0 || strcmp(key, "attention.key_length") == 0 ||
         strcmp(key, "attention.value_length") == 0;
}

static aiinfra_status put_tables(aii_hf *hf)
{
  aiinfra_status rc = AIINFRA_OK;
  for (const aii_hf_key *k = hf->arch->keys; k != NULL && k->key != NULL && rc == AIINFRA_OK; k++) rc = put_one(hf, k);
  for (const aii_hf_key *k = aii_hf_common_keys; k->key != NULL && rc == AIINFRA_OK; k++) {
    if (!in_keys(hf->arch->keys, k->key) && !is_special(hf, k->key)) rc = put_one(hf, k);
  }
  return rc;
}

/* DeepSeek: keys and values are one compressed head; the true sizes have keys of their own. */
static void put_mla(aii_hf *hf)
{
  char name[96];
  uint32_t rope = aii_hf_count(hf, "qk_rope_head_dim", 0), lora = aii_hf_count(hf, "kv_lora_rank", 0);
  const char *scoring = json_string_value(aii_hf_find(hf->text, "scoring_func"));
  bool sigmoid = scoring != NULL ? strcmp(scoring, "sigmoid") == 0 : strcmp(hf->arch->model_type, "deepseek_v3") == 0;
  aii_put_u32(&hf->w, full_key(hf, "attention.head_count_kv", name), 1);
  aii_put_u32(&hf->w, full_key(hf, "attention.key_length", name), lora + rope);
  aii_put_u32(&hf->w, full_key(hf, "attention.value_length", name), lora);
  aii_put_u32(&hf->w, full_key(hf, "attention.key_length_mla", name), aii_hf_count(hf, "qk_nope_head_dim", 0) + rope);
  aii_put_u32(&hf->w, full_key(hf, "attention.value_length_mla", name), aii_hf_count(hf, "v_head_dim", 0));
  aii_put_u32(&hf->w, full_key(hf, "expert_gating_func", name), sigmoid ? 2 : 1);
}

/* Which layers see only a window, where the config lists it. */
static void put_windows(aii_hf *hf)
{
  char name[96];
  const json_t *layers = json_object_get(hf->text, "layer_types");
  size_t n = json_array_size(layers);
  if (n == 0 || in_keys(hf->arch->keys, "attention.sliding_window_pattern") ||
      aii_hf_find(hf->text, "sliding_window") == NULL || !has_window(hf)) {
    return;
  }
  aii_put_array(&hf->w, full_key(hf, "attention.sliding_window_pattern", name), AII_GGUF_BOOL, n);
  for (size_t i = 0; i < n; i++) {
    const char *type = json_string_value(json_array_get(layers, i));
    aii_put_elem_bool(&hf->w, type != NULL && strcmp(type, "sliding_attention") == 0);
  }
}

/* What ModernBERT's classifier reads. */
static void put_head_pooling(aii_hf *hf)
{
  char name[96];
  const char *pooling = json_string_value(json_object_get(hf->text, "classifier_pooling"));
  bool mean = pooling != NULL && strcmp(pooling, "mean") == 0;
  aii_put_u32(&hf->w, full_key(hf, "classifier.pooling_type", name), mean ? 1 : 2);
}

/* How sentence-transformers pools: 1_Pooling/config.json. */
static aiinfra_status put_pooling(aii_hf *hf)
{
  static const struct {
    const char *key;
    uint32_t type;
  } kinds[] = {{"pooling_mode_mean_tokens", 1}, {"pooling_mode_cls_token", 2}, {"pooling_mode_lasttoken", 3}};
  char name[96];
  json_t *pooling;
  aii_put_bool(&hf->w, full_key(hf, "attention.causal", name), false);
  if (strstr(hf->arch->name, "SequenceClassification") != NULL) {
    aii_put_u32(&hf->w, full_key(hf, "pooling_type", name), 4);
    if (strcmp(hf->arch->gguf, "modern-bert") == 0) put_head_pooling(hf);
    return AIINFRA_OK;
  }
  aiinfra_status rc = aii_hf_json(hf, "1_Pooling/config.json", &pooling);
  for (size_t i = 0; rc == AIINFRA_OK && i < AII_COUNT(kinds); i++) {
    if (!json_is_true(json_object_get(pooling, kinds[i].key))) continue;
    aii_put_u32(&hf->w, full_key(hf, "pooling_type", name), kinds[i].type);
    break;
  }
  json_decref(pooling);
  return rc;
}

/* What the makers of the model advise. */
static void put_sampling(aii_hf *hf)
{
  static const struct {
    const char *key, *from;
    bool whole;
  } all[] = {{"general.sampling.temp", "temperature", false},
             {"general.sampling.top_k", "top_k", true},
             {"general.sampling.top_p", "top_p", false},
             {"general.sampling.min_p", "min_p", false}};
  for (size_t i = 0; hf->generation != NULL && i < AII_COUNT(all); i++) {
    const json_t *value = json_object_get(hf->generation, all[i].from);
    double number = json_number_value(value);
    if (!json_is_number(value) || number < 0 || number > 1e6) continue;
    if (all[i].whole) aii_put_u32(&hf->w, all[i].key, (uint32_t)number);
    else aii_put_f32(&hf->w, all[i].key, (float)number);
  }
}

/* The folder's own name. */
static aii_str folder_name(const char *folder)
{
  size_t n = strlen(folder);
  while (n > 1 && folder[n - 1] == '/') n--;
  size_t start = n;
  while (start > 0 && folder[start - 1] != '/') start--;
  aii_str name = {folder + start, n - start};
  bool dots = name.n > 0 && strspn(name.p, ".") >= name.n;
  return name.n == 0 || dots || !aii_utf8_valid(name.p, name.n) ? (aii_str){"model", 5} : name;
}

aiinfra_status aii_hf_put_keys(aii_hf *hf)
{
  char name[96];
  aii_put_str(&hf->w, "general.architecture", (aii_str){hf->arch->gguf, strlen(hf->arch->gguf)});
  aii_put_str(&hf->w, "general.type", (aii_str){"model", 5});
  aii_put_str(&hf->w, "general.name", folder_name(hf->folder));
  put_sampling(hf);
  aiinfra_status rc = put_tables(hf);
  if (rc != AIINFRA_OK) return rc;
  if ((hf->arch->flags & HF_MLA) != 0) put_mla(hf);
  if ((hf->arch->flags & HF_OFFSET) != 0) {
    uint32_t offset = aii_hf_count(hf, "pad_token_id", 1) + 1, n = aii_hf_count(hf, "max_position_embeddings", 0);
    aii_put_u32(&hf->w, full_key(hf, "context_length", name), n > offset ? n - offset : 0);
  }
  if (strcmp(hf->arch->gguf, "gpt2") == 0 && aii_hf_find(hf->text, "n_inner") == NULL) {
    aii_put_u32(&hf->w, full_key(hf, "feed_forward_length", name), 4 * aii_hf_count(hf, "n_embd", 0));
  }
  put_windows(hf);
  return (hf->arch->flags & HF_ENCODER) != 0 ? put_pooling(hf) : rc;
}
