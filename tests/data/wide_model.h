/* wide_model.h - makes the small models of golden_model.h wider, so that their rows have room for blocks of 32 elements. */
#ifndef AIINFRA_TESTS_WIDE_MODEL_H
#define AIINFRA_TESTS_WIDE_MODEL_H

#include "tests/data/golden_model.h"

/* Whether dimension d of a tensor is a width, not the number of tokens, positions, heads or experts. */
static inline bool wide_is_width(const char *name, size_t d)
{
  static const char *const lists[] = {"attn_sinks", "exp_probs_b", "ffn_gate_inp.bias"};
  static const char *const tables[] = {"token_embd", "position_embd", "token_types", "ffn_gate_inp.", "_exps.bias"};
  if (d > 1) return false;
  for (size_t i = 0; i < AII_COUNT(lists); i++)
    if (d == 0 && strstr(name, lists[i]) != NULL) return false;
  for (size_t i = 0; i < AII_COUNT(tables); i++)
    if (d == 1 && strstr(name, tables[i]) != NULL) return false;
  return d == 0 || strcmp(name, "output.weight") != 0;
}

/* Values that are listed are repeated; random ones of a matrix become smaller, so that its results do not grow. */
static inline void wide_tensor(json_t *spec, uint32_t times)
{
  const char *name = json_string_value(json_array_get(spec, 0));
  json_t *shape = json_array_get(spec, 1), *base = json_array_get(spec, 2);
  size_t n_dims = json_array_size(shape);
  for (size_t d = 0; d < n_dims; d++) {
    json_int_t n = json_integer_value(json_array_get(shape, d));
    if (wide_is_width(name, d)) json_array_set_new(shape, d, json_integer(n * times));
  }
  if (json_is_array(base)) {
    json_t *all = json_array();
    for (size_t i = 0; i < json_array_size(base) * times; i++) json_array_append(all, json_array_get(base, i / times));
    json_array_set_new(spec, 2, all);
  } else if (n_dims > 1 && strstr(name, "_embd") == NULL) {
    double spread = json_number_value(json_array_get(spec, 3));
    json_array_set_new(spec, 3, json_real(spread / sqrt(times)));
  }
}

static inline void wide_make(json_t *golden, uint32_t times)
{
  static const char *const widths[] = {"embedding_length", "feed_forward_length", "key_length",
                                       "value_length",     "dimension_count",     "lora_rank"};
  json_t *keys = json_object_get(golden, "keys"), *value, *spec;
  const char *key;
  size_t t;
  json_object_foreach(keys, key, value)
  {
    for (size_t i = 0; i < AII_COUNT(widths); i++)
      if (strstr(key, widths[i]) != NULL) json_integer_set(value, json_integer_value(value) * times);
  }
  json_array_foreach(json_object_get(golden, "tensors"), t, spec) wide_tensor(spec, times);
}

#endif
