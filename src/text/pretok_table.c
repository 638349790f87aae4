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
};

static const aii_pretok TABLE[] = {
    {" default ", "punct gpt2 digits ascii3", 0},
    {" llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral lfm2 midm-2.0 jina-v5-nano ", "llama3",
     AII_PRE_IGNORE_MERGES | AII_PRE_ADD_BOS},
    {" dbrx smaug-bpe glm4 chatglm-bpe ", "llama3", 0},
    {" qwen2 deepseek-r1-qwen kormo stablelm2 hunyuan grok-2 solar-open megrez f2llmv2 ", "qwen2", 0},
    {" bailingmoe bailingmoe2 llada-moe ", "qwen2", 0}, /* \s*[\r\n] ends where \s*[\r\n]+ does */
    {" qwen35 ", "qwen35", 0},
    {" gpt-2 phi-2 mpt olmo jais trillion jina-es jina-de jina-v2-es jina-v2-de gigachat mellum modern-bert exaone4 "
     "granite-docling a.x-4.0 ",
     "gpt2", 0},
    {" roberta-bpe jina-v1-en jina-v2-code ", "gpt2", AII_PRE_ADD_SEP},
    {" smollm starcoder refact command-r codeshell exaone minerva-7b mellum2 ", "digit gpt2", 0},
    {" falcon ", "punct-tick gpt2 ascii3", 0},
    {" deepseek-llm ", "newline ds-letters ds-punct to-end ds-cjk digits", 0},
    {" deepseek-coder ", "newline white-letters white-punct ds-cjk digit", 0},
    {" deepseek-v3 hunyuan-dense joyai-llm ", "digits3 ds3-cjk deepseek3", 0},
    {" tekken ", "tekken", AII_PRE_IGNORE_MERGES | AII_PRE_ADD_BOS},
    {" gpt-4o llama4 kanana2 minimax-m2 talkie ", "o200k", 0},
    {" tiny_aya cohere2moe ", "groups-word o200k", 0},
    {" seed-coder ", "seed-coder", 0},
    {" minicpm5 ", "digits3 minicpm5", AII_PRE_IGNORE_MERGES},
    {" superbpe ", "digits groups", 0},
    {" bloom poro-chat gpt3-finnish ", "bloom", 0},
    {" viking ", "bloom digit", 0},
    {" kimi-k2 ", "kimi", 0},
    {" gemma4 sarvam-moe granite-embed-multi-311m ", "lines", AII_PRE_RAW},
    {" whitespace ", "not-space", AII_PRE_RAW},
    {" laguna ", "lines qwen2", 0},
    {" jais-2 ", "jais2", 0},
    {" youtu ", "youtu-script youtu", AII_PRE_IGNORE_MERGES},
    {" exaone-moe ", "exaone-moe", 0},
    {" chameleon ", "sentinel image tabs digit one-punct gpt2", AII_PRE_ADD_BOS},
    {" granite-embed-multi-97m ", "granite97", AII_PRE_IGNORE_MERGES},
    {" afmoe ", "groups-n afmoe-script deepseek3", 0},
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
