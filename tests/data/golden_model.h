/* golden_model.h - models from their descriptions: what tests/reference wrote, with keys, shapes and expected numbers.
 *
 * A description is a JSON file: "keys" of a GGUF file, "tensors" as [name, [ne...], base, spread] or [name, [ne...],
 * [values...]], "tokens". Weights are a formula of (name of the tensor, index) that tests/reference shares, so that a
 * file holds shapes and a few results alone.
 */
#ifndef AIINFRA_TESTS_GOLDEN_MODEL_H
#define AIINFRA_TESTS_GOLDEN_MODEL_H

#include <jansson.h>

#include "tests/data/gguf_maker.h"
#include "tests/data/model_runner.h"

enum { GOLDEN_VOCAB = 263, GOLDEN_MAX_TOKENS = 128 };

static inline json_t *golden_read(const char *path)
{
  json_error_t error;
  json_t *golden = json_load_file(path, 0, &error);
  if (golden == NULL) fail_msg("%s: %s", path, error.text);
  return golden;
}

/* The file tests/data/FOLDER/NAME. */
static inline json_t *golden_load(const char *folder, const char *name)
{
  char path[256];
  snprintf(path, sizeof path, "tests/data/%s/%s", folder, name);
  return golden_read(test_path(path));
}

static inline void golden_add_key(gguf_maker *m, const char *key, const json_t *value)
{
  switch (json_typeof(value)) {
    case JSON_STRING: gm_key_str(m, key, json_string_value(value)); break;
    case JSON_INTEGER: gm_key_u32(m, key, (uint32_t)json_integer_value(value)); break;
    case JSON_REAL: gm_key_f32(m, key, (float)json_real_value(value)); break;
    case JSON_TRUE:
    case JSON_FALSE: gm_key_bool(m, key, json_is_true(value)); break;
    default: fail_msg("key %s has a value of another kind", key);
  }
}

/* The state of the random numbers that a name stands for. */
static inline uint64_t golden_seed(const char *name)
{
  uint64_t h = 0xcbf29ce484222325u;
  for (; *name != '\0'; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
  return h;
}

/* The values of a tensor, and its shape; free() them. */
static inline float *golden_values(const json_t *spec, uint64_t ne[4], size_t *n)
{
  const json_t *shape = json_array_get(spec, 1), *base = json_array_get(spec, 2);
  uint64_t state = golden_seed(json_string_value(json_array_get(spec, 0)));
  float spread = (float)json_number_value(json_array_get(spec, 3));
  *n = 1;
  for (size_t d = 0; d < 4; d++) {
    ne[d] = d < json_array_size(shape) ? (uint64_t)json_integer_value(json_array_get(shape, d)) : 1;
    *n *= ne[d];
  }
  float *values = malloc(*n * sizeof *values);
  for (size_t i = 0; i < *n; i++) {
    if (json_is_array(base)) values[i] = (float)json_number_value(json_array_get(base, i));
    else values[i] = (float)json_number_value(base) + spread * gm_random(&state);
  }
  return values;
}

static inline void golden_add_tensor(gguf_maker *m, const json_t *spec)
{
  uint64_t ne[4];
  size_t n;
  float *values = golden_values(spec, ne, &n);
  gm_pad(&m->data, m->alignment);
  gm_info(m, json_string_value(json_array_get(spec, 0)), 0, (uint32_t)json_array_size(json_array_get(spec, 1)), ne,
          m->data.n);
  gm_add(&m->data, values, n * sizeof *values);
  free(values);
}

/* Writes the model to a file of the test's own; returns its path. */
static inline const char *golden_write(const json_t *golden)
{
  gguf_maker m;
  const char *key, *path = test_tmp("golden.gguf");
  json_t *value;
  size_t i, n;
  gm_init(&m);
  json_object_foreach(json_object_get(golden, "keys"), key, value) golden_add_key(&m, key, value);
  gm_vocab(&m, GOLDEN_VOCAB);
  json_array_foreach(json_object_get(golden, "tensors"), i, value) golden_add_tensor(&m, value);
  uint8_t *bytes = gm_finish(&m, &n);
  assert_int_equal(test_write_file(path, bytes, n), 0);
  free(bytes);
  return path;
}

static inline uint32_t golden_tokens(const json_t *golden, aiinfra_token *tokens)
{
  const json_t *list = json_object_get(golden, "tokens");
  uint32_t n = (uint32_t)json_array_size(list);
  assert_true(n <= GOLDEN_MAX_TOKENS);
  for (uint32_t i = 0; i < n; i++) tokens[i] = (aiinfra_token)json_integer_value(json_array_get(list, i));
  return n;
}

/* The norm of the difference to the hidden states that an encoder's golden has, over the norm of those. */
static inline double golden_error(const json_t *golden, const float *hidden, uint32_t width)
{
  json_t *rows = json_object_get(golden, "rows"), *row;
  const char *key;
  double off = 0, size = 0;
  json_object_foreach(rows, key, row)
  {
    const float *got = hidden + strtoul(key, NULL, 10) * width;
    for (uint32_t i = 0; i < width; i++) {
      double want = json_number_value(json_array_get(row, i));
      off += ((double)got[i] - want) * ((double)got[i] - want);
      size += want * want;
    }
  }
  return sqrt(off / size);
}

#endif
