/* embedder_api.c - the public functions of aiinfra/memory.h on embedders: check arguments, load options, call down. */
#include "src/memory/memory.h"

enum { MOST_DIMS = 16384 };

static aiinfra_status load_embedder(aiinfra_embedder *e, const aiinfra_embedder *embedder, aiinfra_error *err)
{
  aiinfra_status rc = AII_OPTS_LOAD(e, embedder, reserved, err);
  if (rc == AIINFRA_OK) rc = aii_memory_check_text("the name of the embedder", e->name, AII_EMBEDDER_NAME - 1, err);
  if (rc != AIINFRA_OK) return rc;
  if (strchr(e->name, '/') != NULL) return aii_fail(err, AIINFRA_EINVAL, "the name of the embedder has a '/'");
  if (e->embed == NULL) return aii_fail(err, AIINFRA_EINVAL, "embed is NULL");
  if (e->dims == 0 || e->dims > MOST_DIMS)
    return aii_fail(err, AIINFRA_EINVAL, "dims is %u, must be 1 to %d", e->dims, MOST_DIMS);
  if (e->reserved != 0) return aii_fail(err, AIINFRA_EINVAL, "reserved is %u, must be 0", e->reserved);
  return AIINFRA_OK;
}

static aiinfra_status tell(aii_mem *mem, const char *name, uint64_t items, uint64_t embedded, char **out,
                           aiinfra_error *err)
{
  aii_buf json;
  aii_buf_init(&json, mem, 0);
  aii_buf_str(&json, "{\"embedder\":");
  if (name != NULL) aii_buf_json(&json, name, strlen(name));
  else aii_buf_str(&json, "null");
  aii_buf_fmt(&json, ",\"items\":%llu,\"embedded\":%llu}", (unsigned long long)items, (unsigned long long)embedded);
  aiinfra_status rc = aii_buf_export(&json, out, err);
  aii_buf_free(&json);
  return rc;
}

aiinfra_status aiinfra_memory_migrate(aiinfra_memory *memory, const aiinfra_embedder *embedder,
                                      aiinfra_progress_fn progress, void *progress_user, char **report_json,
                                      aiinfra_error *err)
{
  aiinfra_embedder e;
  uint64_t items, embedded;
  if (report_json != NULL) *report_json = NULL;
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = embedder != NULL ? load_embedder(&e, embedder, err) : AIINFRA_OK;
  if (rc != AIINFRA_OK) return rc;
  rc = aii_dense_migrate(memory, embedder != NULL ? &e : NULL, progress, progress_user, &items, &embedded, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "migrate");
  if (report_json == NULL) return AIINFRA_OK;
  return tell(&memory->db->rt->mem, embedder != NULL ? e.name : NULL, items, embedded, report_json, err);
}

aiinfra_status aiinfra_memory_use_embedder(aiinfra_memory *memory, const aiinfra_embedder *embedder, aiinfra_error *err)
{
  aiinfra_embedder e;
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = embedder != NULL ? load_embedder(&e, embedder, err) : AIINFRA_OK;
  if (rc == AIINFRA_OK) rc = aii_dense_use(memory, embedder != NULL ? &e : NULL, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "use an embedder");
}
