/* ingest_api.c - the public functions of aiinfra/memory.h on documents: check arguments, load options, call down. */
#include "src/memory/memory.h"

enum { MOST_SIZE = 65536, SIZE_BYTES = 600, SIZE_WORDS = 100, SIZE_TOKENS = 128, LEAST_BYTES = 16, LEAST_OTHERS = 4 };

/* Tokens of a text, the special ones that a model puts around it left out. */
static size_t measure_tokens(void *user, const char *text, size_t n)
{
  size_t tokens = 0;
  aiinfra_status rc = aiinfra_model_tokenize(user, text, n, 0, NULL, 0, &tokens, NULL);
  return rc == AIINFRA_OK || rc == AIINFRA_ENOSPC ? tokens : SIZE_MAX;
}

static aiinfra_status load_opts(aii_ingest *how, const aiinfra_ingest_opts *opts, aiinfra_error *err)
{
  static const aii_cut_kind kinds[] = {AII_CUT_STRUCTURE, AII_CUT_SENTENCES, AII_CUT_TOKENS};
  aiinfra_ingest_opts o;
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, reserved, err);
  if (rc != AIINFRA_OK) return rc;
  if (o.chunking < 0 || o.chunking > AIINFRA_CHUNK_TOKENS)
    return aii_fail(err, AIINFRA_EINVAL, "chunking %d is not an aiinfra_chunking", o.chunking);
  if (o.unit < 0 || o.unit > AIINFRA_UNIT_WORDS)
    return aii_fail(err, AIINFRA_EINVAL, "unit %d is not an aiinfra_chunk_unit", o.unit);
  if (o.reserved != 0) return aii_fail(err, AIINFRA_EINVAL, "reserved is %u, must be 0", o.reserved);
  bool tokens = o.unit == AIINFRA_UNIT_DEFAULT && o.model != NULL, words = o.unit == AIINFRA_UNIT_WORDS;
  uint32_t least = tokens || words ? LEAST_OTHERS : LEAST_BYTES;
  if (o.size == 0) o.size = tokens ? SIZE_TOKENS : words ? SIZE_WORDS : SIZE_BYTES;
  if (o.size < least || o.size > MOST_SIZE)
    return aii_fail(err, AIINFRA_EINVAL, "size is %u, must be %u to %d", o.size, least, MOST_SIZE);
  if (o.overlap > o.size / 2)
    return aii_fail(err, AIINFRA_EINVAL, "overlap is %u, at most half of the size, which is %u", o.overlap, o.size);
  *how = (aii_ingest){.progress = o.progress, .user = o.progress_user, .keep_missing = o.keep_missing != 0};
  how->cutting.cut = (aii_cut_opts){kinds[o.chunking], o.size, o.overlap, NULL, NULL};
  if (words) how->cutting.cut.measure = aii_measure_words;
  if (!tokens) return AIINFRA_OK;
  how->cutting.model = o.model;
  how->cutting.cut.measure = measure_tokens;
  how->cutting.cut.user = (void *)(uintptr_t)o.model;
  return AIINFRA_OK;
}

static aiinfra_status ingest(aiinfra_memory *memory, const char *const *paths, size_t n, const aii_ingest *how,
                             aii_ingest_report *report, aiinfra_error *err)
{
  for (size_t i = 0; i < n; i++) {
    if (paths[i] == NULL) return aii_fail(err, AIINFRA_EINVAL, "paths[%zu] is NULL", i);
  }
  aiinfra_status rc = aii_memory_ingest(memory, paths, n, how, report, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "ingest");
}

/* The caller's struct may be older or newer than ours: only what both know is written. */
static void give_stats(aiinfra_ingest_stats *to, size_t size, const aiinfra_ingest_stats *from)
{
  size_t n = AII_MIN(size, sizeof *from);
  if (n > sizeof size) memcpy((char *)to + sizeof size, (const char *)from + sizeof size, n - sizeof size);
}

aiinfra_status aiinfra_memory_ingest(aiinfra_memory *memory, const char *const *paths, size_t n_paths,
                                     aiinfra_progress_fn progress, void *progress_user, aiinfra_ingest_stats *stats,
                                     aiinfra_error *err)
{
  aii_ingest_report report = {.stats.struct_size = sizeof report.stats};
  aii_ingest how;
  if (memory == NULL || (paths == NULL && n_paths > 0)) {
    return aii_fail(err, AIINFRA_EINVAL, "memory or paths is NULL");
  }
  if (stats != NULL && stats->struct_size < sizeof stats->struct_size + sizeof stats->files) {
    return aii_fail(err, AIINFRA_EINVAL, "stats.struct_size is not set");
  }
  if (stats != NULL) give_stats(stats, stats->struct_size, &report.stats);
  aiinfra_status rc = load_opts(&how, NULL, err);
  if (rc != AIINFRA_OK) return rc;
  how.progress = progress;
  how.user = progress_user;
  aii_buf_init(&report.list, &memory->db->rt->mem, 0);
  rc = ingest(memory, paths, n_paths, &how, &report, err);
  aii_buf_free(&report.list);
  if (stats != NULL) give_stats(stats, stats->struct_size, &report.stats);
  return rc;
}

static aiinfra_status tell(const aii_ingest_report *report, aii_mem *mem, char **out, aiinfra_error *err)
{
  const aiinfra_ingest_stats *s = &report->stats;
  const struct {
    const char *name;
    uint64_t n;
  } counts[] = {
      {"files", s->files},    {"unchanged", s->unchanged},     {"skipped", s->skipped},      {"passages", s->passages},
      {"kept", report->kept}, {"removed", s->removed},         {"renamed", report->renamed}, {"gone", report->gone},
      {"bytes", s->bytes},    {"n_problems", report->problems}};
  aii_buf json;
  aii_buf_init(&json, mem, 0);
  for (size_t i = 0; i < AII_COUNT(counts); i++)
    aii_buf_fmt(&json, "%s\"%s\":%llu", i == 0 ? "{" : ",", counts[i].name, (unsigned long long)counts[i].n);
  aii_buf_str(&json, ",\"problems\":[");
  aii_buf_add(&json, aii_buf_cstr(&report->list), report->list.len);
  aii_buf_str(&json, "]}");
  aiinfra_status rc = aii_buf_export(&json, out, err);
  aii_buf_free(&json);
  return rc;
}

aiinfra_status aiinfra_memory_ingest_files(aiinfra_memory *memory, const char *const *paths, size_t n_paths,
                                           const aiinfra_ingest_opts *opts, char **report_json, aiinfra_error *err)
{
  aii_ingest_report report = {.stats.struct_size = sizeof report.stats};
  aii_ingest how;
  if (report_json != NULL) *report_json = NULL;
  if (memory == NULL || (paths == NULL && n_paths > 0)) {
    return aii_fail(err, AIINFRA_EINVAL, "memory or paths is NULL");
  }
  aiinfra_status rc = load_opts(&how, opts, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_init(&report.list, &memory->db->rt->mem, 0);
  rc = ingest(memory, paths, n_paths, &how, &report, err);
  if (report_json != NULL && (rc == AIINFRA_OK || rc == AIINFRA_ECANCELED)) {
    aiinfra_status told = tell(&report, &memory->db->rt->mem, report_json, rc == AIINFRA_OK ? err : NULL);
    if (rc == AIINFRA_OK) rc = told;
  }
  aii_buf_free(&report.list);
  return rc;
}
