/* pretok.c - splits text into the pieces that BPE merges never cross, as the model's pre-tokenizer does.
 *
 * A pre-tokenizer is a list of expressions, applied in order: each splits the pieces that the previous one left, and
 * what lies between two matches is a piece of its own. The table below names the known ones by GGUF's
 * tokenizer.ggml.pre; adding a model that reuses an expression is adding a name.
 */
#include "src/text/pretok_impl.h"

enum { MAX_STAGES = 6 };

enum { IGNORE_MERGES = 1, ADD_BOS = 2 };

struct aii_pretok {
  const char *names; /* separated and surrounded by spaces */
  aii_pmatch stages[MAX_STAGES + 1];
  int flags;
};

static const aii_pretok TABLE[] = {
    {" default ", {aii_pm_punct, aii_pm_gpt2, aii_pm_digits, aii_pm_ascii3}, 0},
    {" llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral lfm2 midm-2.0 jina-v5-nano ",
     {aii_pm_llama3},
     IGNORE_MERGES | ADD_BOS},
    {" dbrx smaug-bpe glm4 chatglm-bpe ", {aii_pm_llama3}, 0},
    {" qwen2 deepseek-r1-qwen kormo stablelm2 hunyuan grok-2 solar-open megrez f2llmv2 ", {aii_pm_qwen2}, 0},
    {" qwen35 ", {aii_pm_qwen35}, 0},
    {" gpt-2 phi-2 mpt olmo jais trillion roberta-bpe jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code "
     "gigachat mellum modern-bert exaone4 granite-docling a.x-4.0 ",
     {aii_pm_gpt2},
     0},
    {" smollm starcoder refact command-r codeshell exaone minerva-7b mellum2 ", {aii_pm_digit, aii_pm_gpt2}, 0},
    {" falcon ", {aii_pm_punct_tick, aii_pm_gpt2, aii_pm_ascii3}, 0},
    {" deepseek-llm ",
     {aii_pm_newline, aii_pm_ds_letters, aii_pm_ds_punct, aii_pm_trailing_space, aii_pm_ds_cjk, aii_pm_digits},
     0},
    {" deepseek-coder ", {aii_pm_newline, aii_pm_space_letters, aii_pm_space_punct, aii_pm_ds_cjk, aii_pm_digit}, 0},
    {" deepseek-v3 hunyuan-dense joyai-llm ", {aii_pm_digits3, aii_pm_ds3_cjk, aii_pm_ds3}, 0},
    {" tekken ", {aii_pm_tekken}, IGNORE_MERGES | ADD_BOS},
    {" gpt-4o llama4 kanana2 minimax-m2 talkie ", {aii_pm_o200k}, 0},
    {" bloom poro-chat gpt3-finnish ", {aii_pm_bloom}, 0},
    {" viking ", {aii_pm_bloom, aii_pm_digit}, 0},
};

const aii_pretok *aii_pretok_find(const char *name)
{
  size_t n = strlen(name);
  if (n == 0 || strchr(name, ' ') != NULL) return NULL;
  for (size_t i = 0; i < AII_COUNT(TABLE); i++) {
    for (const char *at = strstr(TABLE[i].names, name); at != NULL; at = strstr(at + 1, name)) {
      if (at[-1] == ' ' && at[n] == ' ') return &TABLE[i];
    }
  }
  return NULL;
}

bool aii_pretok_ignore_merges(const aii_pretok *pre)
{
  return (pre->flags & IGNORE_MERGES) != 0;
}

bool aii_pretok_add_bos(const aii_pretok *pre)
{
  return (pre->flags & ADD_BOS) != 0;
}

size_t aii_pm_trailing_space(const aii_pchar *c, size_t i, size_t n)
{
  if ((c[i].cls & PC_SPACE) == 0) return i;
  while (i < n && (c[i].cls & PC_SPACE) != 0) i++;
  return i;
}

/* \s+$ would try each start of a run that does not reach the end: only the last run can match. */
static size_t last_run(const aii_pchar *c, size_t from, size_t n)
{
  while (n > from && (c[n - 1].cls & PC_SPACE) != 0) n--;
  return n;
}

/* Applies one expression to the piece c[from..to) and appends the ends of what it leaves (as indices). */
static bool split_piece(aii_mem *mem, aii_pmatch match, const aii_pchar *c, size_t from, size_t to, aii_ends *out)
{
  size_t gap = from, start = match == aii_pm_trailing_space ? last_run(c, from, to) : from;
  for (size_t i = start; i < to;) {
    size_t end = match(c, i, to);
    if (end == i) {
      i++;
      continue;
    }
    if (!aii_grow(mem, &out->items, &out->cap, out->n + 2, sizeof *out->items)) return false;
    if (i > gap) out->items[out->n++] = (uint32_t)i;
    out->items[out->n++] = (uint32_t)end;
    gap = i = end;
  }
  if (gap == to) return true;
  if (!aii_grow(mem, &out->items, &out->cap, out->n + 1, sizeof *out->items)) return false;
  out->items[out->n++] = (uint32_t)to;
  return true;
}

static size_t classify(const char *text, size_t n, aii_pchar *c)
{
  uint8_t ascii[128];
  for (uint32_t i = 0; i < 128; i++) ascii[i] = aii_char_class(i);
  size_t count = 0;
  for (size_t at = 0; at < n;) {
    uint32_t cp = 0xFFFD;
    int len = aii_utf8_decode(text + at, n - at, &cp);
    c[count++] = (aii_pchar){cp, (uint32_t)at, cp < 128 ? ascii[cp] : aii_char_class(cp)};
    at += len > 0 ? (size_t)len : 1;
  }
  return count;
}

/* All expressions in turn; *ends swaps with *other. */
static bool apply(const aii_pretok *pre, aii_mem *mem, const aii_pchar *c, size_t n, aii_ends *ends, aii_ends *other)
{
  if (!aii_grow(mem, &ends->items, &ends->cap, 1, sizeof *ends->items)) return false;
  ends->items[ends->n++] = (uint32_t)n;
  for (size_t s = 0; s < MAX_STAGES && pre->stages[s] != NULL; s++) {
    size_t from = 0;
    other->n = 0;
    for (size_t i = 0; i < ends->n; i++) {
      if (!split_piece(mem, pre->stages[s], c, from, ends->items[i], other)) return false;
      from = ends->items[i];
    }
    aii_ends held = *ends;
    *ends = *other;
    *other = held;
  }
  return true;
}

aiinfra_status aii_pretok_split(const aii_pretok *pre, aii_mem *mem, const char *text, size_t n, aii_ends *ends,
                                aiinfra_error *err)
{
  if (n == 0) return AIINFRA_OK;
  aii_ends other = {0};
  aii_pchar *c = aii_new_array(mem, n, sizeof *c);
  bool ok = c != NULL;
  if (ok) {
    size_t count = classify(text, n, c);
    ok = apply(pre, mem, c, count, ends, &other);
    for (size_t i = 0; ok && i < ends->n; i++) {
      ends->items[i] = ends->items[i] < count ? c[ends->items[i]].at : (uint32_t)n;
    }
  }
  aii_del(mem, c, n * sizeof *c);
  aii_del(mem, other.items, other.cap * sizeof *other.items);
  return ok ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "splitting %zu bytes", n);
}
