/* src/retrieve/retrieve.h - documents of any format become text, and text becomes passages.
 *
 *   load.c    chooses the format, refuses what is no text   cut.c     cuts the text into passages
 *   text.c    a text with the way back to its source        where.c   where a passage may end
 *   decode.c  UTF-16, Windows-1252                          blocks.c  paragraphs of plain text and code
 *   html.c, entity.c, csv.c, json.c, pdf.c                  markdown.c  the structure of Markdown
 *
 * Invariants of a loaded document:
 * 1. The text is UTF-8 without NUL.
 * 2. The pieces ascend and cover the text; each says which bytes of the source it was made from. A piece that is exact
 *    is the source's own bytes.
 * 3. The blocks ascend and do not overlap. What lies between two blocks is white space, or markup of the source.
 *
 * Nothing here knows of databases or models; only pdf.c starts a program. Any thread.
 */
#ifndef AII_RETRIEVE_H
#define AII_RETRIEVE_H

#include "lib/base/base.h"

/* ---- a document as text (text.c) ---------------------------------------------------------------------------------- */

typedef enum aii_format {
  AII_FORMAT_TEXT,
  AII_FORMAT_MARKDOWN,
  AII_FORMAT_HTML,
  AII_FORMAT_JSON,
  AII_FORMAT_CSV,
  AII_FORMAT_CODE,
  AII_FORMAT_PDF,
  AII_FORMATS
} aii_format;
const char *aii_format_name(aii_format format);

/* text[piece.text .. next piece.text) was made from source[source .. end). */
typedef struct aii_piece {
  size_t text, source, end;
  bool exact;
} aii_piece;

typedef enum aii_block_kind {
  AII_BLOCK_HEADING, /* its title; no part of a passage */
  AII_BLOCK_PROSE,   /* is cut at sentences */
  AII_BLOCK_LINES,   /* code, tables, records: is cut at line ends */
  AII_BLOCK_UNIT     /* a function or the like: the same, and its first line names the rest */
} aii_block_kind;

typedef struct aii_textblock {
  size_t first, n; /* bytes of the text */
  aii_block_kind kind;
  unsigned level; /* of a heading, 1 to 6 */
} aii_textblock;

typedef struct aii_loaded {
  aii_mem *mem;
  aii_buf text;
  aii_piece *pieces;
  size_t n_pieces, cap_pieces;
  aii_textblock *blocks;
  size_t n_blocks, cap_blocks;
  aii_format format;
  bool failed; /* memory ran out; sticky */
} aii_loaded;

void aii_loaded_init(aii_loaded *doc, aii_mem *mem);
void aii_loaded_free(aii_loaded *doc);
/* Appends bytes of the source as they are; `source` is its first byte, n bytes from `at` on are taken. */
void aii_put_exact(aii_loaded *doc, const char *source, size_t at, size_t n);
/* Appends text that stands for source[from .. to). */
void aii_put_made(aii_loaded *doc, const char *text, size_t n, size_t from, size_t to);
/* Appends a block that ends where the text ends now; an empty one is left out. */
void aii_put_block(aii_loaded *doc, size_t first, aii_block_kind kind, unsigned level);
void aii_add_block(aii_loaded *doc, size_t first, size_t n, aii_block_kind kind, unsigned level);
/* Which bytes of the source n bytes of the text (at least one) were made from. */
void aii_loaded_source(const aii_loaded *doc, size_t first, size_t n, size_t *from, size_t *to);
/* The text of doc was made from that of `through`: its pieces now lead to the source of `through`. */
void aii_loaded_compose(aii_loaded *doc, const aii_loaded *through);

/* ---- loading (load.c, decode.c) ------------------------------------------------------------------------------------- */

#define AII_FILE_MAX_BYTES ((size_t)16 << 20)

/* Makes text of n bytes. The path tells the format together with the bytes, and names the file for pdf.c.
 * ENOTSUP: it is no text; the message says what it is. Whatever it returns, aii_loaded_free() must follow. */
aiinfra_status aii_load(aii_loaded *doc, const char *path, const char *bytes, size_t n, aiinfra_error *err);

typedef enum aii_encoding {
  AII_ENCODING_UTF8,
  AII_ENCODING_UTF16LE,
  AII_ENCODING_UTF16BE,
  AII_ENCODING_WINDOWS1252,
  AII_ENCODING_NONE /* not text */
} aii_encoding;
/* *skip: bytes of a byte order mark. */
aii_encoding aii_encoding_of(const char *bytes, size_t n, size_t *skip);
/* Appends the text and its pieces. UTF-16 must not hold NUL: false. */
bool aii_decode(aii_loaded *doc, const char *bytes, size_t n, aii_encoding encoding, size_t skip);

/* Each reads UTF-8 and appends text, pieces and blocks. */
void aii_load_html(aii_loaded *doc, const char *s, size_t n);
void aii_load_csv(aii_loaded *doc, const char *s, size_t n);
/* A value, or several behind each other (JSON lines). false: malformed; what was appended is to be thrown away. */
bool aii_load_json(aii_loaded *doc, const char *s, size_t n);
/* Runs pdftotext on the file. Its text has no way back: the pieces lead to bytes of the text itself. */
aiinfra_status aii_load_pdf(aii_loaded *doc, const char *path, aiinfra_error *err);
/* The UTF-8 of the character that begins with '&' at s; *used: bytes of the source. 0: there is none. (entity.c) */
size_t aii_entity(const char *s, size_t n, char out[4], size_t *used);

/* ---- structure (blocks.c, markdown.c) ------------------------------------------------------------------------------- */

typedef struct aii_textline {
  const char *s;
  size_t n; /* without the line end */
} aii_textline;

/* The line at `at`; *next is where the one after it begins. */
aii_textline aii_line_at(const char *s, size_t n, size_t at, size_t *next);
bool aii_is_blank_char(char c);
bool aii_line_is_blank(aii_textline l);
aii_textline aii_line_trim(aii_textline l);

/* Each appends the blocks of the whole text. */
void aii_blocks_plain(aii_loaded *doc);
void aii_blocks_markdown(aii_loaded *doc);
void aii_blocks_code(aii_loaded *doc);

/* ---- passages (cut.c, where.c) --------------------------------------------------------------------------------------- */

/* The size of a text in whatever a size is counted in; SIZE_MAX: it cannot be told. */
typedef size_t (*aii_measure_fn)(void *user, const char *text, size_t n);

typedef enum aii_cut_kind {
  AII_CUT_STRUCTURE, /* whole blocks below one heading, as many as fit */
  AII_CUT_SENTENCES, /* whole sentences */
  AII_CUT_TOKENS     /* as much as fits, between words */
} aii_cut_kind;

typedef struct aii_cut_opts {
  aii_cut_kind kind;
  size_t size;            /* at most; at least 16 bytes */
  size_t overlap;         /* how much of a passage the next one repeats, at most; at most half of size */
  aii_measure_fn measure; /* NULL: bytes */
  void *user;
} aii_cut_opts;

typedef struct aii_chunk {
  size_t first, n;      /* bytes of the text */
  const char *headings; /* "Guide > Server", "" without; valid until the next call */
} aii_chunk;

enum { AII_HEADING_LEVELS = 6, AII_HEADING_BYTES = 96 };

typedef struct aii_cutter {
  const char *text;
  const aii_textblock *blocks;
  size_t n_blocks;
  aii_cut_opts o;
  aii_textblock whole; /* the one block of kinds that ignore structure */
  size_t block, at;    /* the next passage begins here, in this block */
  size_t last_end;     /* of the last passage: the next one must reach further */
  size_t told_end;     /* the same without white space */
  bool failed;         /* the measure failed: there is no more */
  char heading[AII_HEADING_LEVELS][AII_HEADING_BYTES];
  char path[AII_HEADING_LEVELS * (AII_HEADING_BYTES + 4)];
} aii_cutter;

/* doc must outlive the cutter. */
void aii_cutter_init(aii_cutter *c, const aii_loaded *doc, const aii_cut_opts *opts);
bool aii_cutter_next(aii_cutter *c, aii_chunk *out); /* false: the end */

/* Words of a text: runs of characters that are not white space. An aii_measure_fn. */
size_t aii_measure_words(void *user, const char *text, size_t n);
/* Where to cut s, of which at most `limit` of n bytes fit: where it hurts least. 0 < result <= limit. */
size_t aii_cut_where(const char *s, size_t n, size_t limit, aii_block_kind kind, aii_cut_kind cut);
/* Where the last `most` bytes of s begin, at the start of a sentence, line or word; n: nowhere. */
size_t aii_cut_tail(const char *s, size_t n, size_t most, aii_block_kind kind);

#endif
