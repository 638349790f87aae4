/* hf.c - opens a Hugging Face folder as a GGUF-shaped directory: config.json, safetensors shards, tokenizer files.
 *
 * The happy path is: config.json names the architecture -> its row of the table -> all shards are mapped and validated
 * -> keys, rotations, tensors and tokenizer are written as the header of a GGUF file -> which the one parser reads. No
 * weight is read here: each tensor points into a shard, or knows how it will be gathered from there. Fails with
 * ENOENT for a file that is missing, ENOTSUP for what this version does not know, EFORMAT for what contradicts itself.
 */
#include <stdio.h>
#include <unistd.h>

#include "src/model/hf.h"

/* ---- files of the folder --------------------------------------------------------------------------------------------- */

/* "FOLDER/NAME"; NULL: no memory. Free it with aii_strfree(). */
static char *path_of(aii_hf *hf, const char *name)
{
  aii_buf buf;
  aii_buf_init(&buf, hf->mem, 0);
  aii_buf_fmt(&buf, "%s/%s", hf->folder, name);
  char *path = buf.failed ? NULL : aii_strndup(hf->mem, aii_buf_cstr(&buf), buf.len);
  aii_buf_free(&buf);
  if (path == NULL) (void)aii_fail(hf->err, AIINFRA_ENOMEM, "no memory for a path");
  return path;
}

aiinfra_status aii_hf_map(aii_hf *hf, const char *name, aii_file *out)
{
  *out = (aii_file){0};
  char *path = path_of(hf, name);
  if (path == NULL) return AIINFRA_ENOMEM;
  aiinfra_status rc = access(path, F_OK) == 0 ? aii_file_map(path, out, hf->err) : AIINFRA_OK;
  aii_strfree(hf->mem, path);
  return rc;
}

aiinfra_status aii_hf_json(aii_hf *hf, const char *name, json_t **out)
{
  aii_file file;
  *out = NULL;
  aiinfra_status rc = aii_hf_map(hf, name, &file);
  if (rc != AIINFRA_OK || file.bytes == NULL) return rc;
  rc = aii_json_parse((const char *)file.bytes, file.size, name, 0, out, hf->err);
  aii_file_unmap(&file);
  if (rc == AIINFRA_OK && !json_is_object(*out)) {
    json_decref(*out);
    *out = NULL;
    rc = aii_fail(hf->err, AIINFRA_EFORMAT, "%s is no JSON object", name);
  }
  return rc;
}

/* ---- looking into JSON ------------------------------------------------------------------------------------------------- */

static const json_t *enter(const json_t *object, const char *path, size_t n)
{
  while (n > 0 && object != NULL) {
    const char *dot = memchr(path, '.', n);
    size_t step = dot != NULL ? (size_t)(dot - path) : n;
    object = json_object_getn(object, path, step);
    path += AII_MIN(step + 1, n);
    n -= AII_MIN(step + 1, n);
  }
  return json_is_null(object) ? NULL : object;
}

const json_t *aii_hf_find(const json_t *object, const char *names)
{
  for (;;) {
    size_t n = strcspn(names, "|");
    const json_t *found = enter(object, names, n);
    if (found != NULL || names[n] == '\0') return found;
    names += n + 1;
  }
}

double aii_hf_number(const aii_hf *hf, const char *names, double fallback)
{
  const json_t *value = aii_hf_find(hf->text, names);
  return json_is_number(value) ? json_number_value(value) : fallback;
}

uint32_t aii_hf_count(const aii_hf *hf, const char *names, uint32_t fallback)
{
  double value = aii_hf_number(hf, names, (double)fallback);
  return value >= 0 && value <= (double)UINT32_MAX ? (uint32_t)value : fallback;
}

/* ---- shards ---------------------------------------------------------------------------------------------------------- */

static aiinfra_status add_shard(aii_hf *hf, const char *name)
{
  aii_file file;
  aiinfra_status rc = aii_hf_map(hf, name, &file);
  if (rc != AIINFRA_OK) return rc;
  if (file.bytes == NULL) {
    return aii_fail(hf->err, AIINFRA_ENOENT, "'%s' is missing from the folder; download it too", name);
  }
  rc = aii_file_set_add(&hf->gguf->files, file, hf->err);
  if (rc != AIINFRA_OK) return rc;
  if (!aii_grow(hf->mem, &hf->shards, &hf->cap_shards, hf->n_shards + 1, sizeof hf->shards[0])) {
    return aii_fail(hf->err, AIINFRA_ENOMEM, "no memory for a list of shards");
  }
  rc = aii_safetensors_parse(hf->mem, file.bytes, file.size, &hf->shards[hf->n_shards], hf->err);
  if (rc != AIINFRA_OK) return aii_wrap(hf->err, rc, "'%s'", name);
  hf->n_shards++;
  return AIINFRA_OK;
}

static aiinfra_status check_shard_name(aii_hf *hf, const char *name)
{
  if (name != NULL && name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL) return AIINFRA_OK;
  return aii_fail(hf->err, AIINFRA_EFORMAT, "model.safetensors.index.json: '%.64s' is no file of the folder",
                  name != NULL ? name : "");
}

/* Every shard once, in the order in which the index names them; then each tensor must be where the index says. */
static aiinfra_status open_indexed(aii_hf *hf, const json_t *map)
{
  const char *key;
  json_t *value, *seen = json_object();
  aiinfra_status rc = seen != NULL ? AIINFRA_OK : aii_fail(hf->err, AIINFRA_ENOMEM, "no memory for a list of shards");
  json_object_foreach((json_t *)(uintptr_t)map, key, value)
  {
    const char *name = json_string_value(value);
    uint32_t at;
    if (rc == AIINFRA_OK) rc = check_shard_name(hf, name);
    if (rc != AIINFRA_OK) break;
    if (json_object_get(seen, name) == NULL) {
      rc = add_shard(hf, name);
      if (rc == AIINFRA_OK && json_object_set_new(seen, name, json_integer((json_int_t)hf->n_shards - 1)) != 0) {
        rc = aii_fail(hf->err, AIINFRA_ENOMEM, "no memory for a list of shards");
      }
    }
    if (rc != AIINFRA_OK) break;
    const aii_safetensors *shard = &hf->shards[json_integer_value(json_object_get(seen, name))];
    if (!aii_map_get(&shard->names, key, strlen(key), &at)) {
      rc = aii_fail(hf->err, AIINFRA_EFORMAT, "tensor '%.96s' is not in '%s', as the index says", key, name);
    }
  }
  json_decref(seen);
  return rc;
}

static aiinfra_status open_shards(aii_hf *hf)
{
  json_t *index;
  aiinfra_status rc = aii_hf_json(hf, "model.safetensors.index.json", &index);
  if (rc != AIINFRA_OK) return rc;
  if (index == NULL) return add_shard(hf, "model.safetensors");
  const json_t *map = json_object_get(index, "weight_map");
  if (json_is_object(map)) rc = open_indexed(hf, map);
  else rc = aii_fail(hf->err, AIINFRA_EFORMAT, "model.safetensors.index.json has no 'weight_map'");
  json_decref(index);
  return rc;
}

/* ---- the folder ---------------------------------------------------------------------------------------------------------- */

/* What other values of a key would compute, this version does not have. */
static aiinfra_status check_config(const aii_hf *hf)
{
  static const struct {
    const char *key, *wanted;
  } fixed[] = {{"feed_forward_type", "geglu"}, {"classifier_activation", "gelu"}};
  for (size_t i = 0; i < AII_COUNT(fixed); i++) {
    const char *value = json_string_value(json_object_get(hf->config, fixed[i].key));
    if (value != NULL && strcmp(value, fixed[i].wanted) != 0)
      return aii_fail(hf->err, AIINFRA_ENOTSUP, "config.json: '%s' is '%.32s'; this version has '%s' alone",
                      fixed[i].key, value, fixed[i].wanted);
  }
  return AIINFRA_OK;
}

static aiinfra_status read_config(aii_hf *hf)
{
  aiinfra_status rc = aii_hf_json(hf, "config.json", &hf->config);
  if (rc == AIINFRA_OK && hf->config == NULL) {
    rc = aii_fail(hf->err, AIINFRA_ENOENT, "'config.json' is missing: this is no Hugging Face folder");
  }
  if (rc == AIINFRA_OK) rc = aii_hf_find_arch(hf->config, &hf->arch, hf->err);
  if (rc == AIINFRA_OK && json_object_get(hf->config, "quantization_config") != NULL &&
      strcmp(hf->arch->gguf, "gpt-oss") != 0) {
    const char *how = json_string_value(aii_hf_find(hf->config, "quantization_config.quant_method"));
    rc = aii_fail(hf->err, AIINFRA_ENOTSUP,
                  "weights quantised by '%.32s' are not read by this version; take the "
                  "unquantised model",
                  how != NULL ? how : "?");
  }
  if (rc == AIINFRA_OK) rc = check_config(hf);
  if (rc != AIINFRA_OK) return rc;
  json_t *text = json_object_get(hf->config, "text_config");
  hf->text = json_is_object(text) ? text : hf->config;
  rc = aii_hf_json(hf, "generation_config.json", &hf->generation);
  return rc == AIINFRA_OK ? aii_hf_json(hf, "tokenizer_config.json", &hf->tokenizer_config) : rc;
}

static aiinfra_status build(aii_hf *hf)
{
  aiinfra_status rc = read_config(hf);
  if (rc == AIINFRA_OK) rc = open_shards(hf);
  if (rc == AIINFRA_OK) rc = aii_hf_check_tokenizer(hf);
  if (rc == AIINFRA_OK) rc = aii_hf_put_keys(hf);
  if (rc == AIINFRA_OK) rc = aii_hf_put_rope(hf);
  if (rc == AIINFRA_OK) rc = aii_hf_put_tensors(hf);
  if (rc == AIINFRA_OK) rc = aii_hf_put_tokenizer(hf);
  return rc == AIINFRA_OK ? aii_gguf_adopt(hf->gguf, &hf->w, hf->err) : rc;
}

static void clean_up(aii_hf *hf)
{
  for (size_t i = 0; i < hf->n_shards; i++) aii_safetensors_free(&hf->shards[i]);
  aii_del(hf->mem, hf->shards, hf->cap_shards * sizeof hf->shards[0]);
  aii_del(hf->mem, hf->outs, hf->cap_outs * sizeof hf->outs[0]);
  aii_put_free(&hf->w);
  json_decref(hf->config);
  json_decref(hf->generation);
  json_decref(hf->tokenizer_config);
}

aiinfra_status aii_hf_open(aii_mem *mem, const char *folder, aii_gguf **out, aiinfra_error *err)
{
  aii_hf hf = {.mem = mem, .folder = folder, .err = err};
  *out = NULL;
  hf.gguf = aii_gguf_new(mem, "Hugging Face");
  if (hf.gguf == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a model");
  aii_put_init(&hf.w, mem);
  aiinfra_status rc = build(&hf);
  clean_up(&hf);
  if (rc == AIINFRA_OK) {
    *out = hf.gguf;
    return rc;
  }
  aii_gguf_free(hf.gguf);
  return aii_wrap(err, rc, "open '%s'", folder);
}
