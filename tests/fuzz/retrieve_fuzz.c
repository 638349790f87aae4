/* retrieve_fuzz.c - documents from strangers: the first byte chooses the format and how it is cut, the rest is the file.
 *
 * Beside not crashing: every passage must be UTF-8, no larger than asked for, and lie within the file.
 */
#include <stdint.h>
#include <stdlib.h>

#include "src/retrieve/retrieve.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
  if (!holds) abort();
}

static void cut(const aii_loaded *doc, const aii_cut_opts *opts, size_t n)
{
  aii_cutter cutter;
  aii_chunk chunk;
  size_t last = 0, from, to;
  aii_cutter_init(&cutter, doc, opts);
  while (aii_cutter_next(&cutter, &chunk)) {
    check(chunk.n > 0 && chunk.first + chunk.n <= doc->text.len && chunk.first + chunk.n > last);
    check(opts->measure != NULL || chunk.n <= opts->size);
    check(aii_utf8_valid(doc->text.data + chunk.first, chunk.n));
    aii_loaded_source(doc, chunk.first, chunk.n, &from, &to);
    check(from <= to && to <= n);
    last = chunk.first + chunk.n;
  }
  check(!cutter.failed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const char *const names[] = {"a.html", "a.json", "a.csv", "a.md", "a.c", "a.txt", "a.tsv", "a"};
  aii_mem mem;
  aii_loaded doc;
  if (size == 0) return 0;
  const char *bytes = (const char *)data + 1;
  size_t n = size - 1;
  aii_cut_opts opts = {.kind = (aii_cut_kind)((data[0] >> 3) % 3), .size = 16 + data[0] % 64};
  if ((data[0] & 0x40) != 0) opts.overlap = opts.size / 3;
  if ((data[0] & 0x80) != 0) opts.measure = aii_measure_words;
  if (n >= 5 && memcmp(bytes, "%PDF-", 5) == 0) return 0; /* another program's work */
  aii_mem_init(&mem, NULL, 0);
  aii_loaded_init(&doc, &mem);
  if (aii_load(&doc, names[data[0] % 8], bytes, n, NULL) == AIINFRA_OK) cut(&doc, &opts, n);
  aii_loaded_free(&doc);
  check(mem.used_bytes == 0);
  return 0;
}
