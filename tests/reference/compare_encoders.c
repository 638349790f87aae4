/* compare_encoders.c - our encoders beside their references, for the models that encoders.py described, as rows of the
 * table that compare.c begins.
 *
 * compare_encoders DIR   with DIR/{f32,f16,bf16} as encoders.py wrote them. The error of an encoder is that of its hidden
 * states. F16 and BF16 are made of the same weights while opening. The error of model2vec is that of the vector that is
 * furthest off. Fails when F32 is off by more than 1e-5, F16 or BF16 by more than 2e-3.
 */
#include "tests/data/static_model.h"

enum { WIDTH = 32 };

static const char *dir;
static int bad;

static json_t *description(const char *type, const char *folder, const char *name)
{
  char path[512];
  snprintf(path, sizeof path, "%s/%s/%s/%s.json", dir, type, folder, name);
  return golden_read(path);
}

static double error_of(const char *name, const char *type, const char *load_type, char arch[64])
{
  static float hidden[GOLDEN_MAX_TOKENS * WIDTH];
  aiinfra_token tokens[GOLDEN_MAX_TOKENS];
  uint32_t rows[GOLDEN_MAX_TOKENS], pos[GOLDEN_MAX_TOKENS], seq[GOLDEN_MAX_TOKENS] = {0};
  json_t *golden = description(type, "encoders", name);
  uint32_t n = golden_tokens(golden, tokens);
  aiinfra_error err;
  runner r;
  snprintf(arch, 64, "%s", json_string_value(json_object_get(json_object_get(golden, "keys"), "general.architecture")));
  runner_load_type = load_type;
  runner_open(&r, golden_write(golden), NULL, GOLDEN_MAX_TOKENS, 16, load_type == NULL ? AII_F32 : AII_F16);
  for (uint32_t i = 0; i < n; i++) rows[i] = pos[i] = i;
  const uint32_t *table = r.table;
  aii_forward pass = {.rows = {.n_rows = n, .n_seqs = 1, .tokens = tokens, .seq = seq, .pos = pos, .tables = &table},
                      .n_hidden = n,
                      .hidden_rows = rows,
                      .hidden = hidden};
  runner_say("forward", aii_model_forward(r.model, r.ws, &r.kv, &pass, &err), &err);
  double error = golden_error(golden, hidden, WIDTH);
  runner_close(&r);
  json_decref(golden);
  return error;
}

static void encoder(const char *name)
{
  char arch[64];
  double f32 = error_of(name, "f32", NULL, arch), f16 = error_of(name, "f16", "F16", arch),
         bf16 = error_of(name, "bf16", "BF16", arch);
  bool good = f32 <= 1e-5 && f16 <= 2e-3 && bf16 <= 2e-3;
  printf("| %s | %s | %.1e | %.1e | %.1e |%s\n", name, arch, f32, f16, bf16, good ? "" : " too much");
  bad += !good;
}

static void model2vec(const char *name)
{
  static static_vectors got;
  const char *texts[STATIC_TEXTS];
  json_t *golden = description("f32", "model2vec", name), *list = json_object_get(golden, "texts"), *text;
  double error = 0;
  size_t i;
  json_array_foreach(list, i, text) texts[i] = json_string_value(text);
  runner_load_type = NULL;
  static_embed(static_write(golden), texts, i, 0, &got);
  while (i-- > 0)
    error = fmax(error, static_distance(got.v[i], json_array_get(json_object_get(golden, "vectors"), i), got.n_dims));
  printf("| model2vec-%s | model2vec | %.1e | | |%s\n", name, error, error <= 1e-5 ? "" : " too much");
  bad += !(error <= 1e-5);
  json_decref(golden);
}

int main(int argc, char **argv)
{
  static const char *const encoders[] = {"bert",        "jina-bert-v2", "jina-bert-v2-code", "jina-bert-v2-fused",
                                         "modern-bert", "nomic-bert",   "xlm-roberta"},
                           *const tables[] = {"mapped", "plain", "weighted"};
  if (argc != 2) return fprintf(stderr, "usage: compare_encoders DIR\n"), 2;
  dir = argv[1];
  for (size_t i = 0; i < AII_COUNT(encoders); i++) encoder(encoders[i]);
  for (size_t i = 0; i < AII_COUNT(tables); i++) model2vec(tables[i]);
  if (bad > 0) fprintf(stderr, "%d models differ by more than is allowed\n", bad);
  return bad > 0;
}
