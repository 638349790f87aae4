/* passages.c - one file to passages: cut, named by its headings, with its place in the file. Any thread. */
#include <stdio.h>

#include "src/memory/memory.h"

/* Part of every document's hash: a library that reads or cuts documents in another way counts it up. */
enum { READER_VERSION = 1 };

void aii_document_init(aii_document *doc, aii_mem *mem, const aii_docfile *file)
{
  memset(doc, 0, sizeof *doc);
  doc->mem = mem;
  doc->file = file;
}

void aii_document_free(aii_document *doc)
{
  for (size_t i = 0; i < doc->n; i++) {
    aii_strfree(doc->mem, doc->passages[i].text);
    aii_strfree(doc->mem, doc->passages[i].keywords);
    aii_strfree(doc->mem, doc->passages[i].metadata);
  }
  aii_del(doc->mem, doc->passages, doc->cap * sizeof *doc->passages);
  aii_document_init(doc, doc->mem, doc->file);
}

static const char *ending_of(const char *path)
{
  const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path, *dot = strrchr(name, '.');
  return dot != NULL && dot != name ? dot : "";
}

/* A file that is read as another format, or cut in another way, is another document. */
void aii_document_hash(aii_document *doc, const aii_buf *bytes, const aii_cutting *cutting)
{
  char how[160];
  aiinfra_model_info info = {.struct_size = sizeof info};
  if (cutting->model != NULL) (void)aiinfra_model_get_info(cutting->model, &info, NULL);
  int n =
      snprintf(how, sizeof how, "%d %d %zu %zu %d %u %.32s", READER_VERSION, (int)cutting->cut.kind, cutting->cut.size,
               cutting->cut.overlap, cutting->cut.measure != NULL, info.n_vocab, ending_of(doc->file->real));
  doc->n_bytes = bytes->len;
  for (uint64_t part = 0; part < 2; part++) {
    uint64_t seed = aii_hash64(how, (size_t)AII_MAX(n, 0), part);
    uint64_t hash = aii_hash64(aii_buf_cstr(bytes), bytes->len, seed);
    for (size_t i = 0; i < 8; i++) doc->hash[part * 8 + i] = (unsigned char)(hash >> (8 * i));
  }
}

void aii_passage_keywords(const char *headings, const char *path, aii_buf *out)
{
  const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path; /* "/docs/server-guide.md" */
  aii_buf_str(out, headings);
  aii_buf_char(out, ' ');
  aii_buf_add(out, name, strlen(name) - strlen(ending_of(path)));
}

/* Pages of a PDF are parted by form feeds. */
static size_t page_of(const aii_loaded *loaded, size_t at)
{
  size_t page = 1;
  for (const char *s = loaded->text.data, *end = s + at; (s = memchr(s, '\f', (size_t)(end - s))) != NULL; s++) page++;
  return page;
}

static bool describe(aii_document *doc, aii_passage *p, const aii_loaded *loaded, const aii_chunk *chunk, aii_buf *work)
{
  aii_buf_clear(work);
  aii_buf_str(work, "{\"headings\":");
  aii_buf_json(work, chunk->headings, strlen(chunk->headings));
  if (loaded->format == AII_FORMAT_PDF) aii_buf_fmt(work, ",\"page\":%zu", page_of(loaded, chunk->first));
  aii_buf_char(work, '}');
  if (!work->failed) p->metadata = aii_strdup(doc->mem, work->data);
  aii_buf_clear(work);
  aii_normalise(p->text, chunk->n, work);
  p->hash = (int64_t)aii_hash64(aii_buf_cstr(work), work->len, 0);
  aii_buf_clear(work);
  aii_passage_keywords(chunk->headings, doc->file->path, work);
  if (!work->failed) p->keywords = aii_strdup(doc->mem, work->data);
  return !work->failed && p->metadata != NULL && p->keywords != NULL;
}

static aiinfra_status no_memory(const aii_document *doc, aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for the passages of %s", doc->file->path);
}

static bool add_passage(aii_document *doc, const aii_loaded *loaded, const aii_chunk *chunk, aii_buf *work)
{
  size_t end;
  if (!aii_grow(doc->mem, &doc->passages, &doc->cap, doc->n + 1, sizeof *doc->passages)) return false;
  aii_passage *p = &doc->passages[doc->n++];
  memset(p, 0, sizeof *p);
  aii_loaded_source(loaded, chunk->first, chunk->n, &p->first_byte, &end);
  p->n = end - p->first_byte;
  p->text = aii_strndup(doc->mem, loaded->text.data + chunk->first, chunk->n);
  return p->text != NULL && describe(doc, p, loaded, chunk, work);
}

aiinfra_status aii_document_cut(aii_document *doc, const aii_loaded *loaded, const aii_cutting *cutting,
                                aiinfra_error *err)
{
  aii_cutter cutter;
  aii_chunk chunk;
  aii_buf work;
  bool ok = true;
  aii_buf_init(&work, doc->mem, 0);
  aii_cutter_init(&cutter, loaded, &cutting->cut);
  while (ok && aii_cutter_next(&cutter, &chunk)) ok = add_passage(doc, loaded, &chunk, &work);
  aii_buf_free(&work);
  return ok && !cutter.failed ? AIINFRA_OK : no_memory(doc, err);
}
