/* pretok_class.c - expressions that are one character class: digits, punctuation, DeepSeek's, BLOOM's. */
#include "src/text/pretok_impl.h"

typedef struct range {
  uint32_t first, last;
} range;

/* The cased letters of deepseek-llm, in order. */
static const range CASED[] = {
    {0x0041, 0x005A},   {0x0061, 0x007A},   {0x00B5, 0x00B5},   {0x00C0, 0x00D6},   {0x00D8, 0x00F6},
    {0x00F8, 0x01BA},   {0x01BC, 0x01BF},   {0x01C4, 0x0293},   {0x0295, 0x02AF},   {0x0370, 0x0373},
    {0x0376, 0x0376},   {0x0377, 0x0377},   {0x037B, 0x037D},   {0x037F, 0x037F},   {0x0386, 0x0386},
    {0x0388, 0x038A},   {0x038C, 0x038C},   {0x038E, 0x03A1},   {0x03A3, 0x03F5},   {0x03F7, 0x0481},
    {0x048A, 0x052F},   {0x0531, 0x0556},   {0x10A0, 0x10C5},   {0x13A0, 0x13F5},   {0x13F8, 0x13FD},
    {0x1C90, 0x1CBA},   {0x1CBD, 0x1CBF},   {0x1D00, 0x1D2B},   {0x1D6B, 0x1D77},   {0x1D79, 0x1D9A},
    {0x1E00, 0x1F15},   {0x1F18, 0x1F1D},   {0x1F20, 0x1F45},   {0x1F48, 0x1F4D},   {0x1F50, 0x1F57},
    {0x1F59, 0x1F59},   {0x1F5B, 0x1F5B},   {0x1F5D, 0x1F5D},   {0x1F5F, 0x1F7D},   {0x1F80, 0x1FB4},
    {0x1FB6, 0x1FBC},   {0x1FBE, 0x1FBE},   {0x1FC2, 0x1FC4},   {0x1FC6, 0x1FCC},   {0x1FD0, 0x1FD3},
    {0x1FD6, 0x1FDB},   {0x1FE0, 0x1FEC},   {0x1FF2, 0x1FF4},   {0x1FF6, 0x1FFC},   {0x2102, 0x2102},
    {0x2107, 0x2107},   {0x210A, 0x2113},   {0x2115, 0x2115},   {0x2119, 0x211D},   {0x2124, 0x2124},
    {0x2126, 0x2126},   {0x2128, 0x2128},   {0x212A, 0x212D},   {0x212F, 0x2134},   {0x2139, 0x2139},
    {0x213C, 0x213F},   {0x2145, 0x2149},   {0x214E, 0x214E},   {0x2183, 0x2183},   {0x2184, 0x2184},
    {0x2C00, 0x2C7B},   {0x2C7E, 0x2CE4},   {0x2CEB, 0x2CEE},   {0x2CF2, 0x2CF2},   {0x2CF3, 0x2CF3},
    {0xA640, 0xA66D},   {0xA680, 0xA69B},   {0xA722, 0xA76F},   {0xA771, 0xA787},   {0xA78B, 0xA78E},
    {0xAB70, 0xABBF},   {0xFB00, 0xFB06},   {0xFB13, 0xFB17},   {0xFF21, 0xFF3A},   {0xFF41, 0xFF5A},
    {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB}, {0x10C80, 0x10CB2}, {0x10CC0, 0x10CF2},
    {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
};

static bool in_ranges(uint32_t cp, const range *ranges, size_t n)
{
  size_t lo = 0, hi = n;
  while (lo < hi) {
    size_t mid = (lo + hi) / 2;
    if (cp > ranges[mid].last) {
      lo = mid + 1;
    } else {
      hi = mid;
    }
  }
  return lo < n && cp >= ranges[lo].first;
}

static size_t run(const aii_pchar *c, size_t i, size_t n, uint8_t any_of)
{
  while (i < n && (c[i].cls & any_of) != 0) i++;
  return i;
}

size_t aii_pm_digit(const aii_pchar *c, size_t i, size_t n)
{
  return run(c, i, AII_MIN(n, i + 1), PC_N);
}

size_t aii_pm_digits(const aii_pchar *c, size_t i, size_t n)
{
  return run(c, i, n, PC_N);
}

size_t aii_pm_digits3(const aii_pchar *c, size_t i, size_t n)
{
  return run(c, i, AII_MIN(n, i + 3), PC_N);
}

size_t aii_pm_ascii3(const aii_pchar *c, size_t i, size_t n)
{
  if (n - i < 3) return i;
  for (size_t k = i; k < i + 3; k++) {
    if (c[k].cp < '0' || c[k].cp > '9') return i;
  }
  return i + 3;
}

static size_t punct(const aii_pchar *c, size_t i, size_t n, const char *extra)
{
  while (i < n && ((c[i].cls & PC_P) != 0 || (c[i].cp > 0 && c[i].cp < 128 && strchr(extra, (int)c[i].cp) != NULL)))
    i++;
  return i;
}

size_t aii_pm_punct(const aii_pchar *c, size_t i, size_t n)
{
  return punct(c, i, n, "$+<=>^~|");
}

size_t aii_pm_punct_tick(const aii_pchar *c, size_t i, size_t n)
{
  return punct(c, i, n, "$+<=>^~|`");
}

size_t aii_pm_newline(const aii_pchar *c, size_t i, size_t n)
{
  (void)n;
  return i + (c[i].cp == '\r' || c[i].cp == '\n');
}

static size_t spaced(const aii_pchar *c, size_t i, size_t n, uint8_t cls)
{
  size_t from = i + ((c[i].cls & PC_SPACE) != 0), end = run(c, from, n, cls);
  return end > from ? end : i;
}

size_t aii_pm_space_letters(const aii_pchar *c, size_t i, size_t n)
{
  return spaced(c, i, n, PC_L);
}

size_t aii_pm_space_punct(const aii_pchar *c, size_t i, size_t n)
{
  return spaced(c, i, n, PC_P);
}

size_t aii_pm_ds_letters(const aii_pchar *c, size_t i, size_t n)
{
  size_t from = i + ((c[i].cls & PC_SPACE) != 0), end = from;
  while (end < n && in_ranges(c[end].cp, CASED, AII_COUNT(CASED))) end++;
  return end > from ? end : i;
}

size_t aii_pm_ds_punct(const aii_pchar *c, size_t i, size_t n)
{
  static const range marks[] = {{'!', '/'},       {':', '~'},       {0x2018, 0x201F},
                                {0x3000, 0x3002}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF5E}};
  size_t from = i + ((c[i].cls & PC_SPACE) != 0), end = from;
  while (end < n && in_ranges(c[end].cp, marks, AII_COUNT(marks))) end++;
  if (end > from) return end;
  for (end = i; end < n && in_ranges(c[end].cp, marks, AII_COUNT(marks));) end++; /* U+3000 is a space too */
  return end;
}

size_t aii_pm_ds_cjk(const aii_pchar *c, size_t i, size_t n)
{
  static const range cjk[] = {{0x0800, 0x9FA5}, {0xAC00, 0xD7FF}};
  while (i < n && in_ranges(c[i].cp, cjk, AII_COUNT(cjk))) i++;
  return i;
}

size_t aii_pm_ds3_cjk(const aii_pchar *c, size_t i, size_t n)
{
  static const range cjk[] = {{0x3040, 0x30FF}, {0x4E00, 0x9FA5}};
  while (i < n && in_ranges(c[i].cp, cjk, AII_COUNT(cjk))) i++;
  return i;
}

static bool ascii_letter(uint32_t cp)
{
  return (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z');
}

/* [ascii punctuation][A-Za-z]+ | [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+ | ?[\p{P}\p{S}]+[\r\n]* | W */
size_t aii_pm_ds3(const aii_pchar *c, size_t i, size_t n)
{
  uint32_t cp = c[i].cp;
  size_t end = i + 1;
  if (cp < 128 && (c[i].cls & (PC_P | PC_S)) != 0 && end < n && ascii_letter(c[end].cp)) {
    while (end < n && ascii_letter(c[end].cp)) end++;
    return end;
  }
  size_t from = i + (cp != '\r' && cp != '\n' && (c[i].cls & (PC_L | PC_P | PC_S)) == 0);
  if ((end = run(c, from, n, PC_L | PC_M)) > from) return end;
  if ((end = run(c, i, n, PC_L | PC_M)) > i) return end;
  from = i + (cp == ' ');
  if ((end = run(c, from, n, PC_P | PC_S)) > from) {
    while (end < n && (c[end].cp == '\r' || c[end].cp == '\n')) end++;
    return end;
  }
  return (c[i].cls & PC_SPACE) != 0 ? aii_pm_llama3(c, i, n) : i;
}

/* ' ?[^(\s|.,!?...)]+' of BLOOM */
size_t aii_pm_bloom(const aii_pchar *c, size_t i, size_t n)
{
  static const uint32_t out[] = {'(',    '|',    '.',    ',',    '!',    '?',    ')',
                                 0x2026, 0x3002, 0xFF0C, 0x3001, 0x0964, 0x06D4, 0x060C};
  size_t from = i + (c[i].cp == ' '), end = from;
  for (; end < n && (c[end].cls & PC_SPACE) == 0; end++) {
    bool stop = false;
    for (size_t k = 0; k < AII_COUNT(out); k++) stop |= c[end].cp == out[k];
    if (stop) break;
  }
  return end > from ? end : i;
}
