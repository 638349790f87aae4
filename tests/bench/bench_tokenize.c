/* bench_tokenize.c - megabytes of English a second through the tokenizers, on one core.
 *
 * War and Peace of the shared data through real vocabularies. Where a Python with the package tokenizers is named by
 * REFERENCE_PYTHON, or `make reference` made one, the same text goes through it, on one thread, for the ratio.
 *
 * bench_tokenize [text file [repetitions [which of the vocabularies, from 0]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "src/text/text.h"
#include "tests/support/support.h"

static aii_mem mem;

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static const char *python(void)
{
  const char *named = getenv("REFERENCE_PYTHON");
  if (named != NULL) return named;
  FILE *file = fopen(test_built("reference/venv/bin/python"), "rb");
  if (file == NULL) return NULL;
  fclose(file);
  return test_built("reference/venv/bin/python");
}

/* Megabytes a second of Hugging Face's tokenizers; 0: no Python, no package. */
static double reference(const char *json, const char *text)
{
  char command[1024];
  double rate = 0;
  if (python() == NULL) return 0;
  snprintf(
      command, sizeof command,
      "RAYON_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false '%s' -c \"import time, tokenizers\n"
      "t = tokenizers.Tokenizer.from_file('%s')\ns = open('%s', encoding='utf-8').read()\n"
      "a = time.process_time(); t.encode(s); print(len(s.encode()) / (time.process_time() - a) / 1e6)\" 2>/dev/null",
      python(), json, text);
  FILE *pipe = popen(command, "r");
  if (pipe == NULL) return 0;
  if (fscanf(pipe, "%lf", &rate) != 1) rate = 0;
  pclose(pipe);
  return rate;
}

static void measure(const char *json, const char *text_path, const char *text, size_t n, int times)
{
  char path[256];
  size_t size = 0, n_tokens = 0;
  aii_vocab *vocab = NULL;
  aiinfra_error err;
  if (test_data(json) == NULL) return;
  snprintf(path, sizeof path, "%s", test_data(json));
  char *file = test_read_file(path, &size);
  double from = now();
  bool spm = file != NULL && aii_is_sentencepiece(file, size);
  if (file == NULL || (spm ? aii_vocab_from_sentencepiece : aii_vocab_from_hf_json)(&mem, file, size, NULL, &vocab,
                                                                                    &err) != AIINFRA_OK) {
    printf("%-48s %s\n", json, file != NULL ? err.message : "cannot be read");
    free(file);
    return;
  }
  double load = now() - from, best = 1e9;
  for (int i = 0; i < times; i++) {
    aii_tokens tokens;
    aii_tokens_init(&tokens, &mem);
    from = now();
    if (aii_tokenize(vocab, text, n, 0, &tokens, &err) != AIINFRA_OK) printf("%s\n", err.message);
    double seconds = now() - from;
    best = seconds < best ? seconds : best;
    n_tokens = tokens.n;
    aii_tokens_free(&tokens);
  }
  double rate = (double)n / best / 1e6, theirs = spm ? 0 : reference(path, text_path);
  printf("%-48s %6.1f MB/s  %zu tokens, read in %.2f s", json, rate, n_tokens, load);
  if (theirs > 0) printf("; Hugging Face %.1f MB/s, %.1f times as fast", theirs, rate / theirs);
  printf("\n");
  aii_vocab_free(vocab);
  free(file);
}

int main(int argc, char **argv)
{
  static const char *const files[] = {"tokenizers/hf-json/phi-2/tokenizer.json",
                                      "tokenizers/hf-json/phi-3-mini/tokenizer.json",
                                      "tokenizers/hf-json/falcon-tokenizer/tokenizer.json",
                                      "embeddings/model2vec/float32/tokenizer.json",
                                      "embeddings/model2vec/vocab-quantized/tokenizer.json",
                                      "tokenizers/sentencepiece/llama2-32k.tokenizer.model"};
  char path[256];
  size_t n = 0;
  const char *text_path = argc > 1 ? argv[1] : test_data("corpus/war-and-peace.txt");
  if (text_path == NULL) return test_skip_all("no corpus in AIINFRA_SHARED_DATA");
  snprintf(path, sizeof path, "%s", text_path);
  char *text = test_read_file(path, &n);
  if (text == NULL) return 1;
  aii_mem_init(&mem, NULL, 0);
  for (size_t i = 0; i < AII_COUNT(files); i++) {
    if (argc < 4 || (size_t)atoi(argv[3]) == i) measure(files[i], path, text, n, argc > 2 ? atoi(argv[2]) : 3);
  }
  free(text);
  return 0;
}
