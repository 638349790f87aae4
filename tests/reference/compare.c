/* compare.c - our logits beside those of transformers, for the models that models.py made, as a table in Markdown.
 *
 * compare DIR   with DIR/CASE/{f32,f16,bf16}.gguf, .logits and tokens.i32. The prompt goes in at once, then token by
 * token what greedy decoding chose there. The error is the norm of the difference over the norm of the reference, over
 * all positions. Fails when F32 is off by more than 1e-5 or would choose another token, F16 or BF16 by more than 2e-3.
 */
#include "tests/data/model_runner.h"

#include <dirent.h>

enum { N_PROMPT = 48, MAX_TOKENS = 256, MAX_CASES = 256 };

typedef struct outcome {
  double error;
  int other_tokens; /* choices that differ */
  char arch[64];
} outcome;

static void *read_all(const char *dir, const char *name, const char *ending, size_t *size)
{
  char path[512];
  snprintf(path, sizeof path, "%s/%s%s", dir, name, ending);
  void *bytes = test_read_file(path, size);
  if (bytes == NULL) fprintf(stderr, "%s: cannot be read\n", path), exit(1);
  return bytes;
}

static uint32_t largest(const float *x, uint32_t n)
{
  uint32_t best = 0;
  for (uint32_t i = 1; i < n; i++) best = x[i] > x[best] ? i : best;
  return best;
}

static outcome compare(const char *dir, const char *type)
{
  char path[512];
  size_t n_bytes, n_logits;
  outcome o = {0, 0, ""};
  aiinfra_token *tokens = read_all(dir, "tokens", ".i32", &n_bytes);
  float *want = read_all(dir, type, ".logits", &n_logits);
  uint32_t n = (uint32_t)(n_bytes / sizeof *tokens);
  runner r;
  snprintf(path, sizeof path, "%s/%s.gguf", dir, type);
  runner_open(&r, path, NULL, N_PROMPT, 16, strcmp(type, "f32") == 0 ? AII_F32 : AII_F16);
  uint32_t n_vocab = r.model->hp.n_vocab;
  if (n_logits != (size_t)n * n_vocab * sizeof *want) fprintf(stderr, "%s: wrong size\n", path), exit(1);
  float *got = calloc((size_t)n * n_vocab, sizeof *got);
  runner_step(&r, tokens, N_PROMPT, 0, true, got);
  for (uint32_t t = N_PROMPT; t < n; t++) runner_step(&r, tokens + t, 1, t, true, got + (size_t)t * n_vocab);
  double off = 0, size = 0;
  for (size_t i = 0; i < (size_t)n * n_vocab; i++) {
    off += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
    size += (double)want[i] * (double)want[i];
  }
  for (uint32_t t = N_PROMPT - 1; t + 1 < n; t++)
    o.other_tokens += (aiinfra_token)largest(got + (size_t)t * n_vocab, n_vocab) != tokens[t + 1];
  o.error = sqrt(off / size);
  aii_str arch;
  if (aii_gguf_get_str(r.model->gguf, "general.architecture", &arch))
    snprintf(o.arch, sizeof o.arch, "%.*s", (int)arch.n, arch.p);
  runner_close(&r);
  free(tokens);
  free(want);
  free(got);
  return o;
}

static int by_name(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv)
{
  char *names[MAX_CASES];
  size_t n = 0;
  int bad = 0;
  DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
  if (dir == NULL) return fprintf(stderr, "usage: compare DIR\n"), 2;
  for (struct dirent *e; (e = readdir(dir)) != NULL && n < MAX_CASES;) {
    char path[512], *text;
    snprintf(path, sizeof path, "%s/%s/tokens.i32", argv[1], e->d_name);
    if (e->d_name[0] == '.' || (text = test_read_file(path, NULL)) == NULL) continue;
    free(text);
    names[n++] = strdup(e->d_name);
  }
  closedir(dir);
  qsort(names, n, sizeof names[0], by_name);
  printf("| model | architecture | F32 | F16 | BF16 |\n|---|---|---|---|---|\n");
  for (size_t i = 0; i < n; i++) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", argv[1], names[i]);
    outcome f32 = compare(path, "f32"), f16 = compare(path, "f16"), bf16 = compare(path, "bf16");
    bool good = f32.error <= 1e-5 && f32.other_tokens == 0 && f16.error <= 2e-3 && bf16.error <= 2e-3;
    printf("| %s | %s | %.1e | %.1e | %.1e |%s\n", names[i], f32.arch, f32.error, f16.error, bf16.error,
           good ? "" : " too much");
    bad += !good;
    free(names[i]);
  }
  if (bad > 0) fprintf(stderr, "%d models differ by more than is allowed\n", bad);
  return n == 0 || bad > 0;
}
