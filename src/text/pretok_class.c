/* pretok_class.c - what a character is: Unicode's classes as bits, and the odd sets that some models split by. */
#include <utf8proc.h>

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

static const range DS_PUNCT[] = {{'!', '/'},       {':', '~'},       {0x2018, 0x201F},
                                 {0x3000, 0x3002}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF5E}};
static const range DS_CJK[] = {{0x0800, 0x9FA5}, {0xAC00, 0xD7FF}};
static const range DS3_CJK[] = {{0x3040, 0x30FF}, {0x4E00, 0x9FA5}};
static const range BLOOM[] = {{'!', '!'},       {'(', ')'},       {',', ','},       {'.', '.'},
                              {'?', '?'},       {'|', '|'},       {0x060C, 0x060C}, {0x06D4, 0x06D4},
                              {0x0964, 0x0964}, {0x2026, 0x2026}, {0x3001, 0x3002}, {0xFF0C, 0xFF0C}};
static const range HANGUL[] = {{0x3131, 0x318E}, {0xAC00, 0xD7A3}};
static const range YOUTU_PUNCT[] = {{0x2014, 0x2014}, {0x2018, 0x2019}, {0x201C, 0x201D},
                                    {0x2026, 0x2026}, {0x3001, 0x303F}, {0xFE30, 0xFE4F},
                                    {0xFF01, 0xFF01}, {0xFF0C, 0xFF0C}, {0xFF1A, 0xFF1B}};
static const range BOPOMOFO[] = {{0x3105, 0x312F}};
static const range AFMOE[] = {{0x0E40, 0x0EFF}, {0x1000, 0x109F}, {0x1100, 0x11FF}, {0x1780, 0x17FF}, {0x2F00, 0x2FDF},
                              {0x3040, 0x30FF}, {0x3400, 0x4DBF}, {0x4E00, 0x9FFF}, {0xA9E0, 0xA9FF}, {0xAA60, 0xAA7F},
                              {0xAC00, 0xD7AF}, {0xF900, 0xFAFF}, {0xFF65, 0xFF9F}};
static const range HAN[] = {{0x2E80, 0x2E99},   {0x2E9B, 0x2EF3},   {0x2F00, 0x2FD5},   {0x3005, 0x3005},
                            {0x3007, 0x3007},   {0x3021, 0x3029},   {0x3038, 0x303B},   {0x3400, 0x4DBF},
                            {0x4E00, 0x9FFF},   {0xF900, 0xFA6D},   {0xFA70, 0xFAD9},   {0x16FE2, 0x16FE3},
                            {0x16FF0, 0x16FF1}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B739}, {0x2B740, 0x2B81D},
                            {0x2B820, 0x2CEA1}, {0x2CEB0, 0x2EBE0}, {0x2F800, 0x2FA1D}, {0x30000, 0x3134A},
                            {0x31350, 0x323AF}};
/* Circled and squared letters are alphabetic, though symbols. */
static const range LETTER_SYMBOLS[] = {{0x24B6, 0x24E9}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};

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

bool aii_in_set(uint32_t cp, aii_range_set set)
{
  switch (set) {
    case AII_SET_CASED: return in_ranges(cp, CASED, AII_COUNT(CASED));
    case AII_SET_DS_PUNCT: return in_ranges(cp, DS_PUNCT, AII_COUNT(DS_PUNCT));
    case AII_SET_DS_CJK: return in_ranges(cp, DS_CJK, AII_COUNT(DS_CJK));
    case AII_SET_DS3_CJK: return in_ranges(cp, DS3_CJK, AII_COUNT(DS3_CJK));
    case AII_SET_BLOOM: return in_ranges(cp, BLOOM, AII_COUNT(BLOOM));
    case AII_SET_HANGUL: return in_ranges(cp, HANGUL, AII_COUNT(HANGUL));
    case AII_SET_YOUTU_PUNCT: return in_ranges(cp, YOUTU_PUNCT, AII_COUNT(YOUTU_PUNCT));
    case AII_SET_BOPOMOFO: return in_ranges(cp, BOPOMOFO, AII_COUNT(BOPOMOFO));
    case AII_SET_AFMOE: return in_ranges(cp, AFMOE, AII_COUNT(AFMOE));
    case AII_SET_NONE: break;
  }
  return false;
}

static uint16_t general_class(uint32_t cp)
{
  switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT: return PC_L | PC_UP | PC_WORD;
    case UTF8PROC_CATEGORY_LL: return PC_L | PC_LOW | PC_WORD;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return PC_L | PC_UP | PC_LOW | PC_WORD;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return PC_M | PC_UP | PC_LOW | PC_WORD;
    case UTF8PROC_CATEGORY_ND: return PC_N | PC_ND | PC_WORD;
    case UTF8PROC_CATEGORY_NL: return PC_N | PC_WORD;
    case UTF8PROC_CATEGORY_NO: return PC_N;
    case UTF8PROC_CATEGORY_PC: return PC_P | PC_WORD;
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return PC_P;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK: return PC_S;
    case UTF8PROC_CATEGORY_SO: return in_ranges(cp, LETTER_SYMBOLS, AII_COUNT(LETTER_SYMBOLS)) ? PC_S | PC_WORD : PC_S;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return PC_SPACE;
    case UTF8PROC_CATEGORY_CF: return cp == 0x200C || cp == 0x200D ? PC_WORD : 0;
    default: return 0;
  }
}

enum {
  O = 0,
  S = PC_SPACE,
  N = PC_SPACE | PC_NL,
  P = PC_P | PC_ASCII_P,
  Y = PC_S | PC_ASCII_P,
  W = PC_P | PC_WORD | PC_ASCII_P,
  D = PC_N | PC_ND | PC_WORD | PC_09,
  U = PC_L | PC_UP | PC_WORD | PC_ALPHA,
  L = PC_L | PC_LOW | PC_WORD | PC_ALPHA
};

/* clang-format off */
const uint16_t aii_ascii_class[128] = {
    O, O, O, O, O, O, O, O, O, S, N, S, S, N, O, O, /* tab to carriage return */
    O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    S, P, P, P, Y, P, P, P, P, P, P, Y, P, P, P, P, /*  !"#$%&'()*+,-./ */
    D, D, D, D, D, D, D, D, D, D, P, P, Y, Y, Y, P, /* 0 to 9, :;<=>? */
    P, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, /* @, A to O */
    U, U, U, U, U, U, U, U, U, U, U, P, P, P, Y, W, /* P to Z, [ backslash ]^_ */
    Y, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, /* `, a to o */
    L, L, L, L, L, L, L, L, L, L, L, P, Y, P, Y, O, /* p to z, {|}~ */
};
/* clang-format on */

uint16_t aii_char_class(uint32_t cp)
{
  if (cp < 128) return aii_ascii_class[cp];
  if (cp == 0x85) return PC_SPACE;
  uint16_t cls = general_class(cp);
  return cp >= 0x2E80 && in_ranges(cp, HAN, AII_COUNT(HAN)) ? cls | PC_HAN : cls;
}

bool aii_char_is_word(uint32_t cp)
{
  return (aii_char_class(cp) & PC_WORD) != 0;
}

bool aii_char_is_space(uint32_t cp)
{
  return (aii_char_class(cp) & PC_SPACE) != 0;
}
