/* entity.c - the characters that HTML writes as &name; or &#number;.
 *
 * The names are those of Latin-1 and the common marks of text; a name that is not known stays as it is written.
 */
#include "src/retrieve/retrieve.h"

/* U+00A0 to U+00FF in order. From https://html.spec.whatwg.org/multipage/named-characters.html */
static const char latin1[] =
    "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 sup3 acute "
    "micro "
    "para middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring AElig Ccedil "
    "Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave "
    "Uacute Ucirc Uuml Yacute THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml "
    "igrave iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute "
    "thorn yuml";

static const struct {
  const char *name;
  uint32_t cp;
} others[] = {
    {"amp", '&'},       {"lt", '<'},        {"gt", '>'},        {"quot", '"'},      {"apos", '\''},
    {"ndash", 0x2013},  {"mdash", 0x2014},  {"lsquo", 0x2018},  {"rsquo", 0x2019},  {"sbquo", 0x201A},
    {"ldquo", 0x201C},  {"rdquo", 0x201D},  {"bdquo", 0x201E},  {"dagger", 0x2020}, {"Dagger", 0x2021},
    {"bull", 0x2022},   {"hellip", 0x2026}, {"permil", 0x2030}, {"prime", 0x2032},  {"Prime", 0x2033},
    {"lsaquo", 0x2039}, {"rsaquo", 0x203A}, {"euro", 0x20AC},   {"trade", 0x2122},  {"larr", 0x2190},
    {"uarr", 0x2191},   {"rarr", 0x2192},   {"darr", 0x2193},   {"harr", 0x2194},   {"rArr", 0x21D2},
    {"minus", 0x2212},  {"infin", 0x221E},  {"asymp", 0x2248},  {"ne", 0x2260},     {"le", 0x2264},
    {"ge", 0x2265},     {"ensp", 0x2002},   {"emsp", 0x2003},   {"thinsp", 0x2009}, {"zwnj", 0x200C},
    {"zwj", 0x200D},    {"OElig", 0x152},   {"oelig", 0x153},   {"Scaron", 0x160},  {"scaron", 0x161},
    {"Yuml", 0x178},    {"fnof", 0x192},    {"alpha", 0x3B1},   {"beta", 0x3B2},    {"gamma", 0x3B3},
    {"delta", 0x3B4},   {"epsilon", 0x3B5}, {"lambda", 0x3BB},  {"mu", 0x3BC},      {"pi", 0x3C0},
    {"sigma", 0x3C3},   {"tau", 0x3C4},     {"phi", 0x3C6},     {"omega", 0x3C9},   {"Omega", 0x3A9},
    {"Delta", 0x394},   {"sum", 0x2211},    {"radic", 0x221A},  {"check", 0x2713},
};

static uint32_t named(const char *s, size_t n)
{
  uint32_t cp = 0xA0;
  for (size_t i = 0; i < AII_COUNT(others); i++) {
    if (strlen(others[i].name) == n && memcmp(others[i].name, s, n) == 0) return others[i].cp;
  }
  for (const char *name = latin1; *name != '\0'; cp++) {
    size_t length = strcspn(name, " ");
    if (length == n && memcmp(name, s, n) == 0) return cp;
    name += length + (name[length] == ' ');
  }
  return 0;
}

static uint32_t numbered(const char *s, size_t n)
{
  bool hex = n > 0 && (s[0] == 'x' || s[0] == 'X');
  uint32_t cp = 0;
  if (n == (size_t)hex || n > 9) return 0;
  for (size_t i = hex; i < n; i++) {
    char c = s[i];
    uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                            : 99;
    if (digit >= (hex ? 16u : 10u) || cp > 0x10FFFF) return 0;
    cp = cp * (hex ? 16 : 10) + digit;
  }
  return cp;
}

size_t aii_entity(const char *s, size_t n, char out[4], size_t *used)
{
  size_t end = 1;
  while (end < n && end < 12 && s[end] != ';' && !aii_is_blank_char(s[end]) && s[end] != '<' && s[end] != '&') end++;
  if (end >= n || s[end] != ';') return 0;
  uint32_t cp = s[1] == '#' ? numbered(s + 2, end - 2) : named(s + 1, end - 1);
  *used = end + 1;
  return cp == 0 ? 0 : aii_utf8_encode(cp, out);
}
