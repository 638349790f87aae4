/* load.c - bytes become a document: what format they have, what encoding, or why they are no text.
 *
 * The content decides where it can: the marks of PDF, HTML and of well-known binary files. Else the file's name does;
 * what neither knows is plain text. JSON that is malformed is taken as plain text, so that nothing is lost by a comma.
 */
#include <strings.h>

#include "src/retrieve/retrieve.h"

typedef struct magic {
  const char *bytes;
  size_t at, n;
  const char *what;
} magic;

static const magic magics[] = {
    {"\x89PNG", 0, 4, "a PNG image"},
    {"\xFF\xD8\xFF", 0, 3, "a JPEG image"},
    {"GIF8", 0, 4, "a GIF image"},
    {"RIFF", 0, 4, "an image, sound or film (RIFF)"},
    {"OggS", 0, 4, "sound or film (Ogg)"},
    {"ID3", 0, 3, "sound (MP3)"},
    {"ftyp", 4, 4, "film or sound (MP4)"},
    {"PK\x03\x04", 0, 4, "a ZIP archive or an office document"},
    {"\x1F\x8B", 0, 2, "compressed (gzip)"},
    {"BZh", 0, 3, "compressed (bzip2)"},
    {"\xFD"
     "7zXZ",
     0, 5, "compressed (xz)"},
    {"\x28\xB5\x2F\xFD", 0, 4, "compressed (zstd)"},
    {"7z\xBC\xAF", 0, 4, "a 7z archive"},
    {"ustar", 257, 5, "a tar archive"},
    {"\x7F"
     "ELF",
     0, 4, "a program or library"},
    {"MZ", 0, 2, "a program or library"},
    {"\xCA\xFE\xBA\xBE", 0, 4, "a program or library"},
    {"SQLite format 3", 0, 15, "a database"},
    {"GGUF", 0, 4, "a model"},
    {"\xD0\xCF\x11\xE0", 0, 4, "an office document of the old kind"},
};

static const char *binary_kind(const char *bytes, size_t n)
{
  for (size_t i = 0; i < AII_COUNT(magics); i++) {
    const magic *m = &magics[i];
    if (n >= m->at + m->n && memcmp(bytes + m->at, m->bytes, m->n) == 0) return m->what;
  }
  return "binary";
}

/* Whether the name ends like one of the list, which is words between spaces. */
static bool named(const char *path, const char *list)
{
  const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path, *dot = strrchr(name, '.');
  if (dot == NULL || dot[1] == '\0') return false;
  size_t n = strlen(dot + 1);
  for (const char *s = list; *s != '\0'; s++) {
    size_t word = strcspn(s, " ");
    if (word == n && strncasecmp(s, dot + 1, n) == 0) return true;
    s += word;
    if (*s == '\0') break;
  }
  return false;
}

static const char code_names[] =
    "c h cc cpp cxx hh hpp hxx m mm cu cuh py pyi pyx js mjs cjs jsx ts tsx java kt kts scala groovy go rs swift rb "
    "php "
    "pl pm lua r jl cs fs vb hs ml mli erl ex exs clj cljs lisp el scm dart zig nim d pas f f90 asm s sh bash zsh fish "
    "ps1 bat sql proto thrift graphql css scss less vue svelte tf cmake mk gradle toml yaml yml ini cfg conf";

static bool starts(const char *s, size_t n, const char *with)
{
  size_t at = 0, k = strlen(with);
  while (at < n && aii_is_blank_char(s[at])) at++;
  return n - at >= k && strncasecmp(s + at, with, k) == 0;
}

static aii_format format_of(const char *path, const char *s, size_t n)
{
  if (named(path, "md markdown mdx mkd")) return AII_FORMAT_MARKDOWN;
  if (named(path, "html htm xhtml")) return AII_FORMAT_HTML;
  if (named(path, "json jsonl ndjson geojson")) return AII_FORMAT_JSON;
  if (named(path, "csv tsv")) return AII_FORMAT_CSV;
  if (named(path, code_names)) return AII_FORMAT_CODE;
  return starts(s, n, "<!doctype html") || starts(s, n, "<html") ? AII_FORMAT_HTML : AII_FORMAT_TEXT;
}

static void plain(aii_loaded *doc, const char *s, size_t n)
{
  aii_put_exact(doc, s, 0, n);
  if (doc->failed) return;
  if (doc->format == AII_FORMAT_MARKDOWN) aii_blocks_markdown(doc);
  else if (doc->format == AII_FORMAT_CODE) aii_blocks_code(doc);
  else aii_blocks_plain(doc);
}

/* Text in UTF-8 to a document of its format. */
static void structure(aii_loaded *doc, const char *path, const char *s, size_t n)
{
  doc->format = format_of(path, s, n);
  if (doc->format == AII_FORMAT_HTML) {
    aii_load_html(doc, s, n);
  } else if (doc->format == AII_FORMAT_CSV) {
    aii_load_csv(doc, s, n);
  } else if (doc->format != AII_FORMAT_JSON) {
    plain(doc, s, n);
  } else if (!aii_load_json(doc, s, n) && !doc->failed) {
    aii_loaded_free(doc);
    plain(doc, s, n);
  }
}

aiinfra_status aii_load(aii_loaded *doc, const char *path, const char *bytes, size_t n, aiinfra_error *err)
{
  aii_loaded decoded;
  size_t skip = 0;
  bool text = true;
  if (n >= 5 && memcmp(bytes, "%PDF-", 5) == 0) {
    aiinfra_status rc = aii_load_pdf(doc, path, err);
    if (rc == AIINFRA_OK && doc->failed) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for the text");
    return rc;
  }
  aii_encoding encoding = aii_encoding_of(bytes, n, &skip);
  if (encoding == AII_ENCODING_NONE) return aii_fail(err, AIINFRA_ENOTSUP, "it is %s, not text", binary_kind(bytes, n));
  aii_loaded_init(&decoded, doc->mem);
  if (encoding == AII_ENCODING_UTF8) {
    structure(doc, path, bytes + skip, n - skip);
    if (skip > 0) aii_put_exact(&decoded, bytes, skip, n - skip);
  } else {
    text = aii_decode(&decoded, bytes, n, encoding, skip);
    if (text && !decoded.failed) structure(doc, path, aii_buf_cstr(&decoded.text), decoded.text.len);
  }
  if (decoded.n_pieces > 0 && !decoded.failed && !doc->failed) aii_loaded_compose(doc, &decoded);
  bool failed = decoded.failed || doc->failed;
  aii_loaded_free(&decoded);
  if (failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for the text");
  return text ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOTSUP, "it has NUL characters: it is binary, not text");
}
