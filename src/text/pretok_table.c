/* pretok_table.c - the known pre-tokenizers: their expressions as data, and under which names models ask for them.
 *
 * GGUF names a pre-tokenizer (tokenizer.ggml.pre), Hugging Face's tokenizer.json writes the expression out. Adding a
 * model that reuses an expression is adding a name or a spelling. In the comments W stands for
 * \s*[\r\n]+|\s+(?!\S)|\s+ and C for (?i:'s|'t|'re|'ve|'m|'ll|'d).
 */
#include "src/text/pretok_impl.h"

#define CONTRACTION(any)                         \
  {                                              \
    .op = AII_ALT_CONTRACTION, .any_case = (any) \
  }
#define RUN(...)                   \
  {                                \
    .op = AII_ALT_RUN, __VA_ARGS__ \
  }
#define CLASS(c) .cls = (c)
#define NOT(c) .cls = (c), .negate = true
#define AFTER_SPACE .lead = AII_LEAD_SPACE
#define AFTER_WHITE .lead = AII_LEAD_WHITE
#define AFTER_NO(c) .lead = AII_LEAD_OTHER, .not_lead = (c)
#define W {.op = AII_ALT_NEWLINES}, {.op = AII_ALT_BEFORE}, RUN(CLASS(PC_SPACE))
/* [^\r\n\p{L}\p{N}]?[U]*[D]+, then the same with [U]+[D]* */
#define CASED(u, d, ...)                                                           \
  {                                                                                \
    .op = AII_ALT_CASED, AFTER_NO(PC_L | PC_N), .up = (u), .low = (d), __VA_ARGS__ \
  }
#define LM (PC_L | PC_M)
#define LN_SPACE (PC_L | PC_N | PC_SPACE)

static const aii_expr EXPRS[] = {
    /* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S); a space left over is a gap */
    {"gpt2",
     {CONTRACTION(false),
      RUN(AFTER_SPACE, CLASS(PC_L)),
      RUN(AFTER_SPACE, CLASS(PC_N)),
      RUN(AFTER_SPACE, NOT(LN_SPACE)),
      {.op = AII_ALT_BEFORE}}},
    /* C|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|W */
    {"llama3",
     {CONTRACTION(true), RUN(AFTER_NO(PC_L | PC_N), CLASS(PC_L)), RUN(CLASS(PC_N), .most = 3),
      RUN(AFTER_SPACE, NOT(LN_SPACE), .tail = "\r\n"), W}},
    {"qwen2",
     {CONTRACTION(true), RUN(AFTER_NO(PC_L | PC_N), CLASS(PC_L)), RUN(CLASS(PC_N), .most = 1),
      RUN(AFTER_SPACE, NOT(LN_SPACE), .tail = "\r\n"), W}},
    {"qwen35",
     {CONTRACTION(true), RUN(AFTER_NO(PC_L | PC_N), CLASS(LM)), RUN(CLASS(PC_N), .most = 1),
      RUN(AFTER_SPACE, NOT(LN_SPACE | PC_M), .tail = "\r\n"), W}},
    {"minicpm5",
     {CONTRACTION(true), RUN(AFTER_NO(PC_L | PC_N), CLASS(PC_L)), RUN(CLASS(PC_N)),
      RUN(AFTER_SPACE, NOT(LN_SPACE), .tail = "\r\n"), W}},
    {"seed-coder",
     {CONTRACTION(true), RUN(AFTER_NO(PC_L | PC_N), CLASS(PC_L)), RUN(CLASS(PC_N), .most = 1),
      RUN(AFTER_SPACE, NOT(LN_SPACE)), W}},
    {"exaone-moe",
     {CONTRACTION(true),
      {.op = AII_ALT_PHRASE, AFTER_NO(PC_L | PC_N)},
      RUN(CLASS(PC_N), .most = 1),
      RUN(AFTER_SPACE, NOT(LN_SPACE), .tail = "\r\n/", .one_tail = true),
      W}},
    {"jais2",
     {CONTRACTION(true),
      RUN(AFTER_NO(PC_L | PC_N), CLASS(PC_L)),
      RUN(CLASS(PC_N), .most = 3),
      RUN(AFTER_SPACE, NOT(LN_SPACE), .tail = "\r\n"),
      {.op = AII_ALT_NEWLINES},
      {.op = AII_ALT_POWERS}}},
    {"tekken",
     {CASED(PC_UP, PC_LOW, .contraction = false), RUN(CLASS(PC_N), .most = 1),
      RUN(AFTER_SPACE, NOT(LN_SPACE), .tail = "\r\n/"), W}},
    {"o200k",
     {CASED(PC_UP, PC_LOW, .contraction = true, .any_case = true), RUN(CLASS(PC_N), .most = 3),
      RUN(AFTER_SPACE, NOT(LN_SPACE), .tail = "\r\n/"), W}},
    {"youtu",
     {CASED(PC_UP, PC_LOW, .contraction = true, .any_case = true), RUN(CLASS(PC_N), .most = 1),
      RUN(AFTER_SPACE, NOT(LN_SPACE), .tail = "\r\n/"), W}},
    {"granite97",
     {CASED(LM, LM, .contraction = true, .any_case = true), RUN(CLASS(PC_N), .most = 3),
      RUN(AFTER_SPACE, NOT(LN_SPACE), .tail = "\r\n/"), W}},
    {"kimi",
     {RUN(CLASS(PC_HAN)), CASED(PC_UP, PC_LOW, .contraction = true, .without = PC_HAN), RUN(CLASS(PC_N), .most = 3),
      RUN(AFTER_SPACE, NOT(LN_SPACE), .tail = "\r\n"), W}},
    {"deepseek3",
     {{.op = AII_ALT_MARKED},
      RUN(AFTER_NO(PC_L | PC_P | PC_S), CLASS(LM)),
      RUN(AFTER_SPACE, CLASS(PC_P | PC_S), .tail = "\r\n"),
      W}},
    {"bloom", {RUN(AFTER_SPACE, NOT(PC_SPACE), .set = AII_SET_BLOOM)}},
    {"digit", {RUN(CLASS(PC_N), .most = 1)}},
    {"digits", {RUN(CLASS(PC_N))}},
    {"digits3", {RUN(CLASS(PC_N), .most = 3)}},
    {"ascii3", {RUN(CLASS(PC_09), .least = 3, .most = 3)}},
    {"groups", {{.op = AII_ALT_GROUPS, CLASS(PC_ND)}}},
    {"groups-n", {{.op = AII_ALT_GROUPS, CLASS(PC_N)}}},
    {"groups-word", {{.op = AII_ALT_GROUPS_WORD, CLASS(PC_ND)}}},
    {"punct", {RUN(CLASS(PC_P), .extra = "$+<=>^~|")}},
    {"punct-tick", {RUN(CLASS(PC_P), .extra = "$+<=>^~|`")}},
    {"one-punct", {RUN(CLASS(PC_P | PC_ASCII_P), .most = 1)}},
    {"newline", {RUN(CLASS(PC_NL), .most = 1)}},
    {"lines", {RUN(NOT(0), .extra = "\n"), RUN(.extra = "\n")}},
    {"not-space", {RUN(NOT(PC_SPACE))}},
    {"space", {RUN(CLASS(PC_SPACE), .most = 1)}},
    {"words", {RUN(CLASS(PC_WORD)), RUN(NOT(PC_WORD | PC_SPACE))}},
    {"white-letters", {RUN(AFTER_WHITE, CLASS(PC_L))}},
    {"white-punct", {RUN(AFTER_WHITE, CLASS(PC_P))}},
    {"to-end", {{.op = AII_ALT_TO_END}}},
    {"ds-letters", {RUN(AFTER_WHITE, .set = AII_SET_CASED)}},
    {"ds-punct", {RUN(AFTER_WHITE, .set = AII_SET_DS_PUNCT)}},
    {"ds-cjk", {RUN(.set = AII_SET_DS_CJK)}},
    {"ds3-cjk", {RUN(.set = AII_SET_DS3_CJK)}},
    {"afmoe-script", {RUN(.set = AII_SET_AFMOE)}},
    {"youtu-script",
     {RUN(.set = AII_SET_HANGUL), RUN(.set = AII_SET_YOUTU_PUNCT), RUN(.set = AII_SET_BOPOMOFO),
      RUN(.set = AII_SET_DS3_CJK)}},
    {"sentinel", {{.op = AII_ALT_SENTINEL}}},
    {"image", {{.op = AII_ALT_IMAGE}}},
    {"tabs",
     {RUN(.extra = "\t\n", .most = 1), {.op = AII_ALT_TEXT, .extra = "    "}, {.op = AII_ALT_TEXT, .extra = "  "}}},
};

struct aii_pretok {
  const char *names;  /* separated and surrounded by spaces */
  const char *stages; /* expressions, in order */
  uint32_t flags;
  const char *alike; /* how tokenizer.json has them where it differs, see aii_pretok_spell(); NULL: it does not */
};

static const aii_pretok TABLE[] = {
    {" default ", "punct gpt2 digits ascii3", 0, NULL},
    {" llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral lfm2 midm-2.0 jina-v5-nano ", "llama3",
     AII_PRE_IGNORE_MERGES | AII_PRE_ADD_BOS, NULL},
    {" smaug-bpe dbrx glm4 chatglm-bpe ", "llama3", 0, NULL},
    {" qwen2 deepseek-r1-qwen kormo stablelm2 hunyuan grok-2 solar-open megrez f2llmv2 ", "qwen2", 0, NULL},
    {" bailingmoe bailingmoe2 llada-moe ", "qwen2", 0, NULL}, /* \s*[\r\n] ends where \s*[\r\n]+ does */
    {" qwen35 ", "qwen35", 0, NULL},
    {" gpt-2 phi-2 mpt olmo jais trillion jina-es jina-de jina-v2-es jina-v2-de gigachat mellum modern-bert exaone4 "
     "granite-docling a.x-4.0 ",
     "gpt2", 0, NULL},
    {" roberta-bpe jina-v1-en jina-v2-code ", "gpt2", AII_PRE_ADD_SEP, NULL},
    {" smollm starcoder refact command-r codeshell exaone minerva-7b mellum2 ", "digit gpt2", 0, NULL},
    {" falcon ", "punct-tick gpt2 ascii3", 0, "one-punct~ gpt2 bytes digit~ ascii3"},
    {" deepseek-llm ", "newline ds-letters ds-punct to-end ds-cjk digits", 0,
     "newline ds-letters ds-punct to-end ds-cjk digit"},
    {" deepseek-coder ", "newline white-letters white-punct ds-cjk digit", 0, NULL},
    {" deepseek-v3 hunyuan-dense joyai-llm ", "digits3 ds3-cjk deepseek3", 0, NULL},
    {" tekken ", "tekken", AII_PRE_IGNORE_MERGES | AII_PRE_ADD_BOS, NULL},
    {" gpt-4o llama4 kanana2 minimax-m2 talkie ", "o200k", 0, NULL},
    {" tiny_aya cohere2moe ", "groups-word o200k", 0, NULL},
    {" seed-coder ", "seed-coder", 0, NULL},
    {" minicpm5 ", "digits3 minicpm5", AII_PRE_IGNORE_MERGES, NULL},
    {" superbpe ", "digits groups", 0, NULL},
    {" bloom poro-chat gpt3-finnish ", "bloom", 0, NULL},
    {" viking ", "bloom digit", 0, NULL},
    {" kimi-k2 ", "kimi", 0, NULL},
    {" gemma4 sarvam-moe granite-embed-multi-311m ", "lines", AII_PRE_RAW, NULL},
    {" whitespace ", "not-space", AII_PRE_RAW, NULL},
    {" laguna ", "lines qwen2", 0, NULL},
    {" jais-2 ", "jais2", 0, NULL},
    {" youtu ", "youtu-script youtu", AII_PRE_IGNORE_MERGES, NULL},
    {" exaone-moe ", "exaone-moe", 0, NULL},
    {" chameleon ", "sentinel image tabs digit one-punct gpt2", AII_PRE_ADD_BOS, NULL},
    {" granite-embed-multi-97m ", "granite97", AII_PRE_IGNORE_MERGES, NULL},
    {" afmoe ", "groups-n afmoe-script deepseek3", 0, NULL},
};

/* The spellings of tokenizer.json. */
static const struct {
  const char *expr, *regex;
} SPELLINGS[] = {
    {"gpt2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
    {"gpt2", "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
    {"llama3", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
               "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"llama3", "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|"
               "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"},
    {"qwen2", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
              "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"qwen35", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
               "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"tekken", "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
               "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| "
               "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"o200k", "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'"
              "ve|'m|'ll|"
              "'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|"
              "'re|'ve|'m|"
              "'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"deepseek3", "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
                  "?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"ds3-cjk", "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+"},
    {"ds-cjk", "[\xE4\xB8\x80-\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+"},
    {"bloom", " ?[^(\\s|[.,!?\xE2\x80\xA6\xE3\x80\x82\xEF\xBC\x8C\xE3\x80\x81\xE0\xA5\xA4\xDB\x94\xD8\x8C])]+"},
    {"digits3", "\\p{N}{1,3}"},
    {"digits", "\\p{N}+"},
    {"digit", "\\p{N}"},
    {"ascii3", "[0-9][0-9][0-9]"},
    {"newline", "[\\r\\n]"},
    {"white-letters", "\\s?\\p{L}+"},
    {"ds-letters", "\\s?[A-Za-z\xC2\xB5\xC3\x80-\xC3\x96\xC3\x98-\xC3\xB6\xC3\xB8-\xC6\xBA\xC6\xBC-\xC6\xBF"
                   "\xC7\x84-\xCA\x93\xCA\x95-\xCA\xAF\xCD\xB0-\xCD\xB3\xCD\xB6\xCD\xB7\xCD\xBB-\xCD\xBD"
                   "\xCD\xBF\xCE\x86\xCE\x88-\xCE\x8A\xCE\x8C\xCE\x8E-\xCE\xA1\xCE\xA3-\xCF\xB5\xCF\xB7-"
                   "\xD2\x81\xD2\x8A-\xD4\xAF\xD4\xB1-\xD5\x96\xE1\x82\xA0-\xE1\x83\x85\xE1\x8E\xA0-"
                   "\xE1\x8F\xB5\xE1\x8F\xB8-\xE1\x8F\xBD\xE1\xB2\x90-\xE1\xB2\xBA\xE1\xB2\xBD-\xE1\xB2\xBF"
                   "\xE1\xB4\x80-\xE1\xB4\xAB\xE1\xB5\xAB-\xE1\xB5\xB7\xE1\xB5\xB9-\xE1\xB6\x9A\xE1\xB8\x80-"
                   "\xE1\xBC\x95\xE1\xBC\x98-\xE1\xBC\x9D\xE1\xBC\xA0-\xE1\xBD\x85\xE1\xBD\x88-\xE1\xBD\x8D"
                   "\xE1\xBD\x90-\xE1\xBD\x97\xE1\xBD\x99\xE1\xBD\x9B\xE1\xBD\x9D\xE1\xBD\x9F-\xE1\xBD\xBD"
                   "\xE1\xBE\x80-\xE1\xBE\xB4\xE1\xBE\xB6-\xE1\xBE\xBC\xE1\xBE\xBE\xE1\xBF\x82-\xE1\xBF\x84"
                   "\xE1\xBF\x86-\xE1\xBF\x8C\xE1\xBF\x90-\xE1\xBF\x93\xE1\xBF\x96-\xE1\xBF\x9B\xE1\xBF\xA0-"
                   "\xE1\xBF\xAC\xE1\xBF\xB2-\xE1\xBF\xB4\xE1\xBF\xB6-\xE1\xBF\xBC\xE2\x84\x82\xE2\x84\x87"
                   "\xE2\x84\x8A-\xE2\x84\x93\xE2\x84\x95\xE2\x84\x99-\xE2\x84\x9D\xE2\x84\xA4\xE2\x84\xA6"
                   "\xE2\x84\xA8\xE2\x84\xAA-\xE2\x84\xAD\xE2\x84\xAF-\xE2\x84\xB4\xE2\x84\xB9\xE2\x84\xBC-"
                   "\xE2\x84\xBF\xE2\x85\x85-\xE2\x85\x89\xE2\x85\x8E\xE2\x86\x83\xE2\x86\x84\xE2\xB0\x80-"
                   "\xE2\xB1\xBB\xE2\xB1\xBE-\xE2\xB3\xA4\xE2\xB3\xAB-\xE2\xB3\xAE\xE2\xB3\xB2\xE2\xB3\xB3"
                   "\xEA\x99\x80-\xEA\x99\xAD\xEA\x9A\x80-\xEA\x9A\x9B\xEA\x9C\xA2-\xEA\x9D\xAF\xEA\x9D\xB1-"
                   "\xEA\x9E\x87\xEA\x9E\x8B-\xEA\x9E\x8E\xEA\xAD\xB0-\xEA\xAE\xBF\xEF\xAC\x80-\xEF\xAC\x86"
                   "\xEF\xAC\x93-\xEF\xAC\x97\xEF\xBC\xA1-\xEF\xBC\xBA\xEF\xBD\x81-\xEF\xBD\x9A"
                   "\xF0\x90\x90\x80-\xF0\x90\x91\x8F\xF0\x90\x92\xB0-\xF0\x90\x93\x93\xF0\x90\x93\x98-"
                   "\xF0\x90\x93\xBB\xF0\x90\xB2\x80-\xF0\x90\xB2\xB2\xF0\x90\xB3\x80-\xF0\x90\xB3\xB2"
                   "\xF0\x91\xA2\xA0-\xF0\x91\xA3\x9F\xF0\x9E\xA4\x80-\xF0\x9E\xA5\x83]+"},
    {"ds-punct", "\\s?[!-/:-~\xEF\xBC\x81-\xEF\xBC\x8F\xEF\xBC\x9A-\xEF\xBD\x9E\xE2\x80\x98-\xE2\x80\x9F"
                 "\xE3\x80\x80-\xE3\x80\x82]+"},
    {"white-punct", "\\s?\\p{P}+"},
    {"to-end", "\\s+$"},
    {"not-space", "\\S+"},
    {"words", "\\w+|[^\\w\\s]+"},
};

const aii_expr *aii_expr_by_name(const char *name)
{
  for (size_t i = 0; i < AII_COUNT(EXPRS); i++) {
    if (strcmp(EXPRS[i].name, name) == 0) return &EXPRS[i];
  }
  return NULL;
}

const aii_expr *aii_expr_by_regex(aii_str regex)
{
  for (size_t i = 0; i < AII_COUNT(SPELLINGS); i++) {
    if (strlen(SPELLINGS[i].regex) == regex.n && memcmp(SPELLINGS[i].regex, regex.p, regex.n) == 0) {
      return aii_expr_by_name(SPELLINGS[i].expr);
    }
  }
  return NULL;
}

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

uint32_t aii_pretok_flags(const aii_pretok *pre)
{
  return pre->flags;
}

bool aii_pretok_steps(const aii_pretok *pre, aii_mem *mem, aii_pipeline *pipe)
{
  char name[32];
  for (const char *at = pre->stages; *at != 0;) {
    size_t n = strcspn(at, " ");
    assert(n < sizeof name);
    memcpy(name, at, n);
    name[n] = 0;
    const aii_expr *expr = aii_expr_by_name(name);
    assert(expr != NULL);
    if (!aii_pipe_split(mem, pipe, (aii_split_step){.kind = AII_SPLIT_EXPR, .expr = expr})) return false;
    at += n + (at[n] == ' ');
  }
  return true;
}

const char *aii_pretok_named(const char *spelled, uint32_t flags)
{
  const char *found = NULL;
  for (size_t i = 0; i < AII_COUNT(TABLE); i++) {
    const aii_pretok *row = &TABLE[i];
    bool same = strcmp(row->stages, spelled) == 0 || (row->alike != NULL && strcmp(row->alike, spelled) == 0);
    if (!same || (row->flags & AII_PRE_RAW) != 0) continue;
    if ((row->flags & (AII_PRE_IGNORE_MERGES | AII_PRE_ADD_SEP)) == flags) return row->names + 1;
    if (found == NULL) found = row->names + 1;
  }
  return found;
}

/* Expressions by their names, "~" behind one whose matches in a row are one piece, "-" behind one whose matches go. */
void aii_pretok_spell(const aii_pipeline *pipe, aii_buf *out)
{
  for (size_t i = 0; i < pipe->n_split; i++) {
    const aii_split_step *s = &pipe->split[i];
    bool all = s->behavior == AII_ISOLATED || (s->behavior == AII_REMOVED && s->invert);
    const char *behind = all ? "" : s->behavior == AII_CONTIGUOUS ? "~" : s->behavior == AII_REMOVED ? "-" : "?";
    if (s->kind == AII_SPLIT_WORDS) continue;
    if (out->len > 0) aii_buf_char(out, ' ');
    switch (s->kind) {
      case AII_SPLIT_EXPR: aii_buf_fmt(out, "%s%s", s->expr->name, behind); break;
      case AII_SPLIT_REGEX:
        aii_buf_fmt(out, "/%.*s/%s", (int)AII_MIN(s->text.n, (size_t)200), s->text.p, behind);
        break;
      case AII_SPLIT_TEXT: aii_buf_str(out, "text"); break;
      case AII_SPLIT_BYTE_MAP: aii_buf_str(out, "bytes"); break;
      case AII_SPLIT_SPACE: aii_buf_str(out, "space-in-front"); break;
      default: aii_buf_str(out, "metaspace"); break;
    }
  }
}
