/* gguf_split.c - model files in several parts: NAME-00001-of-00005.gguf and so on, each a GGUF file of its own.
 *
 * The first part has the keys of the model; all have split.no (from 0), split.count and split.tensors.count. The happy
 * path is: the opened part is the first and named as the format demands -> each other part beside it is mapped,
 * validated as a file of its own, and must say that it is the part its name promises -> its tensors join the directory.
 * The end is checked against split.tensors.count. What is refused is told with the name of the part.
 */
#include <stdio.h>

#include "src/model/gguf.h"

enum { SUFFIX_BYTES = 20, MAX_PARTS = 99999 }; /* "-00001-of-00005.gguf" */

typedef struct split {
  uint32_t no, count;
  uint64_t tensors; /* of all parts; 0: not said */
} split;

static aiinfra_status read_split(const aii_gguf *g, split *s, aiinfra_error *err)
{
  uint32_t tensors = 0;
  *s = (split){0, 1, 0};
  if (aii_gguf_find(g, "split.count") == NULL) return AIINFRA_OK;
  if (!aii_gguf_get_u32(g, "split.count", &s->count) || !aii_gguf_get_u32(g, "split.no", &s->no)) {
    return aii_fail(err, AIINFRA_EFORMAT, "keys 'split.no' and 'split.count' must both be numbers");
  }
  if (s->count < 1 || s->count > MAX_PARTS || s->no >= s->count) {
    return aii_fail(err, AIINFRA_EFORMAT, "keys 'split.no' and 'split.count' say part %u of %u", s->no, s->count);
  }
  if (aii_gguf_get_u32(g, "split.tensors.count", &tensors)) s->tensors = tensors;
  return AIINFRA_OK;
}

/* Writes the ending that part `no` has over the end of the path; false when the path is too short for one. */
static bool set_ending(char *path, size_t n, uint32_t no, uint32_t count)
{
  char ending[64];
  if (n < SUFFIX_BYTES) return false;
  (void)snprintf(ending, sizeof ending, "-%05u-of-%05u.gguf", no + 1, count);
  memcpy(path + n - SUFFIX_BYTES, ending, SUFFIX_BYTES);
  return true;
}

static aiinfra_status no_memory(size_t n, aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for an index of %zu tensors", n);
}

/* Moves the tensors of a part, and its mapping, to the whole. */
static aiinfra_status join(aii_gguf *whole, aii_gguf *part, aii_file *file, aiinfra_error *err)
{
  size_t n = whole->n_tensors + part->n_tensors, old = whole->n_tensors * sizeof whole->tensors[0];
  uint32_t seen;
  if (part->n_tensors > 0) {
    aii_gguf_tensor *grown = aii_resize(whole->mem, whole->tensors, old, n * sizeof grown[0]);
    if (grown == NULL) return no_memory(n, err);
    whole->tensors = grown;
    memcpy(grown + whole->n_tensors, part->tensors, part->n_tensors * sizeof grown[0]);
  }
  size_t first = whole->n_tensors;
  whole->n_tensors = n;
  for (size_t i = first; i < n; i++) {
    aii_str name = whole->tensors[i].name;
    if (aii_map_get(&whole->names, name.p, name.n, &seen)) {
      return aii_fail(err, AIINFRA_EFORMAT, "tensor '%.*s' is in another part, too", AII_SHOW(name));
    }
    if (!aii_map_set(&whole->names, name.p, name.n, (uint32_t)i)) return no_memory(n, err);
  }
  aii_file mine = *file;
  *file = (aii_file){0};
  return aii_file_set_add(&whole->files, mine, err);
}

static aiinfra_status open_part(aii_gguf *whole, const char *path, uint32_t no, uint32_t count, aiinfra_error *err)
{
  aii_file file;
  aii_gguf *part = NULL;
  split s;
  aiinfra_status rc = aii_file_map(path, &file, err);
  if (rc == AIINFRA_ENOENT) {
    return aii_fail(err, AIINFRA_ENOENT, "part %u of %u is missing: '%s'; download it too", no + 1, count, path);
  }
  if (rc != AIINFRA_OK) return rc;
  rc = aii_gguf_from_memory(whole->mem, file.bytes, file.size, &part, err);
  if (rc == AIINFRA_OK) rc = read_split(part, &s, err);
  if (rc == AIINFRA_OK && (s.no != no || s.count != count)) {
    rc = aii_fail(err, AIINFRA_EFORMAT, "it says that it is part %u of %u", s.no + 1, s.count);
  }
  if (rc == AIINFRA_OK) rc = join(whole, part, &file, err);
  aii_gguf_free(part);
  aii_file_unmap(&file);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "part %u of %u ('%s')", no + 1, count, path);
}

static aiinfra_status open_parts(aii_gguf *g, const char *first, char *path, uint32_t count, aiinfra_error *err)
{
  size_t n = strlen(path);
  aiinfra_status rc = AIINFRA_OK;
  if (!set_ending(path, n, 0, count) || strcmp(path, first) != 0) {
    return aii_fail(err, AIINFRA_EINVAL, "the first of %u parts must be named NAME-00001-of-%05u.gguf", count, count);
  }
  for (uint32_t no = 1; no < count && rc == AIINFRA_OK; no++) {
    (void)set_ending(path, n, no, count);
    rc = open_part(g, path, no, count, err);
  }
  return rc;
}

aiinfra_status aii_gguf_join(aii_gguf *g, const char *path, aiinfra_error *err)
{
  split s;
  aiinfra_status rc = read_split(g, &s, err);
  if (rc != AIINFRA_OK || s.count == 1) return rc;
  if (s.no != 0) {
    return aii_fail(err, AIINFRA_EINVAL, "this is part %u of %u; open the first one, which ends in -00001-of-%05u.gguf",
                    s.no + 1, s.count, s.count);
  }
  char *copy = aii_strdup(g->mem, path);
  if (copy == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a path");
  size_t n = strlen(copy);
  rc = open_parts(g, path, copy, s.count, err);
  aii_del(g->mem, copy, n + 1);
  if (rc == AIINFRA_OK && s.tensors != 0 && s.tensors != g->n_tensors) {
    rc = aii_fail(err, AIINFRA_EFORMAT, "key 'split.tensors.count' says %llu tensors, the parts have %zu",
                  (unsigned long long)s.tensors, g->n_tensors);
  }
  return rc;
}
