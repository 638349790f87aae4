/* care_api.c - public functions of aiinfra/memory.h: blocks with limits, consolidation, summaries. Check arguments, load
 * options, call down. */
#include "src/memory/memory.h"

enum { MAX_NAME = 256, MAX_LABEL = 64, MAX_DESCRIPTION = 1024, MAX_SUMMARY = 65536 };

static aiinfra_status null(const aiinfra_memory *memory, aiinfra_error *err)
{
  return memory != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
}

/* ---- blocks -------------------------------------------------------------------------------------------------------------- */

aiinfra_status aiinfra_memory_define_block(aiinfra_memory *memory, const char *label, const aiinfra_block_opts *opts,
                                           aiinfra_error *err)
{
  aiinfra_block_opts o;
  aiinfra_status rc = null(memory, err);
  if (rc == AIINFRA_OK) rc = AII_OPTS_LOAD(&o, opts, read_only, err);
  if (rc == AIINFRA_OK) rc = aii_memory_check_text("the label", label, MAX_LABEL, err);
  if (rc != AIINFRA_OK) return rc;
  if (o.limit_bytes > AII_BLOCK_BYTES)
    return aii_fail(err, AIINFRA_EINVAL, "limit_bytes is %u, at most %d", o.limit_bytes, AII_BLOCK_BYTES);
  if (o.read_only < -1 || o.read_only > 1) return aii_fail(err, AIINFRA_EINVAL, "read_only is -1, 0 or 1");
  if (o.description != NULL) rc = aii_memory_check_text("the description", o.description, MAX_DESCRIPTION, err);
  if (rc == AIINFRA_OK) rc = aii_memory_define_block(memory, label, &o, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "define a block");
}

static aiinfra_status check_edit(const aiinfra_block_edit *e, aiinfra_error *err)
{
  if (e->text == NULL) return aii_fail(err, AIINFRA_EINVAL, "text is NULL");
  if (e->by_agent < 0 || e->by_agent > 1 || e->reserved != 0)
    return aii_fail(err, AIINFRA_EINVAL, "by_agent is 0 or 1, reserved is 0");
  if (e->find != NULL) {
    aiinfra_status rc = aii_memory_check_text("the text to be replaced", e->find, AII_BLOCK_BYTES, err);
    if (rc != AIINFRA_OK || e->text[0] == '\0') return rc;
  }
  return aii_memory_check_text("the text", e->text, AII_BLOCK_BYTES, err);
}

aiinfra_status aiinfra_memory_edit_block(aiinfra_memory *memory, const char *label, const aiinfra_block_edit *edit,
                                         char **out_text, aiinfra_error *err)
{
  aiinfra_block_edit e;
  aii_buf text;
  if (out_text != NULL) *out_text = NULL;
  aiinfra_status rc = null(memory, err);
  if (rc == AIINFRA_OK && edit == NULL) rc = aii_fail(err, AIINFRA_EINVAL, "edit is NULL");
  if (rc == AIINFRA_OK) rc = AII_OPTS_LOAD(&e, edit, reserved, err);
  if (rc == AIINFRA_OK) rc = aii_memory_check_text("the label", label, MAX_LABEL, err);
  if (rc == AIINFRA_OK) rc = check_edit(&e, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_init(&text, &memory->db->rt->mem, 0);
  rc = aii_memory_edit_block(memory, label, &e, &text, err);
  if (rc == AIINFRA_OK && out_text != NULL) rc = aii_buf_export(&text, out_text, err);
  aii_buf_free(&text);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "edit a block");
}

aiinfra_status aiinfra_memory_list_blocks(aiinfra_memory *memory, char **out_json, aiinfra_error *err)
{
  aii_buf json;
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  aiinfra_status rc = null(memory, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_init(&json, &memory->db->rt->mem, 0);
  rc = aii_memory_list_blocks(memory, &json, err);
  if (rc == AIINFRA_OK) rc = aii_buf_export(&json, out_json, err);
  aii_buf_free(&json);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "list the blocks");
}

/* ---- consolidation -------------------------------------------------------------------------------------------------------- */

aiinfra_status aiinfra_memory_consolidate(aiinfra_memory *memory, const aiinfra_consolidate_opts *opts, char **out_json,
                                          aiinfra_error *err)
{
  aiinfra_consolidate_opts o;
  aii_buf json;
  if (out_json != NULL) *out_json = NULL;
  aiinfra_status rc = null(memory, err);
  if (rc == AIINFRA_OK) rc = AII_OPTS_LOAD(&o, opts, progress_user, err);
  if (rc != AIINFRA_OK) return rc;
  if (o.after_id < 0 || o.dry_run < 0 || o.dry_run > 1 || o.keep_contradictions < 0 || o.keep_contradictions > 1)
    return aii_fail(err, AIINFRA_EINVAL, "after_id is negative, or dry_run or keep_contradictions is not 0 or 1");
  aii_buf_init(&json, &memory->db->rt->mem, 0);
  rc = aii_memory_consolidate(memory, &o, &json, err);
  if ((rc == AIINFRA_OK || rc == AIINFRA_ECANCELED) && out_json != NULL) {
    aiinfra_status told = aii_buf_export(&json, out_json, rc == AIINFRA_OK ? err : NULL);
    if (rc == AIINFRA_OK) rc = told;
  }
  aii_buf_free(&json);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "consolidate");
}

/* ---- summaries -------------------------------------------------------------------------------------------------------------- */

aiinfra_status aiinfra_memory_summarise(aiinfra_memory *memory, const char *conversation,
                                        const aiinfra_summarise_opts *opts, uint64_t *n, aiinfra_error *err)
{
  aiinfra_summarise_opts o;
  uint64_t made = 0;
  if (n != NULL) *n = 0;
  aiinfra_status rc = null(memory, err);
  if (rc == AIINFRA_OK) rc = AII_OPTS_LOAD(&o, opts, reserved, err);
  if (rc == AIINFRA_OK) rc = aii_memory_check_text("the conversation", conversation, MAX_NAME, err);
  if (rc != AIINFRA_OK) return rc;
  if (o.keep_last == 0) o.keep_last = 12;
  if (o.chunk == 0) o.chunk = 24;
  if (o.max_bytes == 0) o.max_bytes = 1024;
  if (o.reserved != 0 || o.max_bytes < 64 || o.max_bytes > AII_BLOCK_BYTES)
    return aii_fail(err, AIINFRA_EINVAL, "max_bytes is 64 to %d, reserved is 0", AII_BLOCK_BYTES);
  rc = aii_memory_summarise(memory, conversation, &o, &made, err);
  if (n != NULL) *n = made;
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "summarise a conversation");
}

aiinfra_status aiinfra_memory_add_summary(aiinfra_memory *memory, const char *conversation, int64_t first_seq,
                                          int64_t last_seq, const char *text, aiinfra_error *err)
{
  aiinfra_status rc = null(memory, err);
  if (rc == AIINFRA_OK) rc = aii_memory_check_text("the conversation", conversation, MAX_NAME, err);
  if (rc == AIINFRA_OK) rc = aii_memory_check_text("the summary", text, MAX_SUMMARY, err);
  if (rc == AIINFRA_OK && (first_seq < 1 || last_seq < first_seq || last_seq > INT32_MAX))
    rc = aii_fail(err, AIINFRA_EINVAL, "messages %lld to %lld are no range", (long long)first_seq, (long long)last_seq);
  if (rc == AIINFRA_OK) rc = aii_memory_add_summary(memory, conversation, first_seq, last_seq, text, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "keep a summary");
}

aiinfra_status aiinfra_memory_summaries(aiinfra_memory *memory, const char *conversation, char **out_json,
                                        aiinfra_error *err)
{
  aii_buf json;
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  aiinfra_status rc = null(memory, err);
  if (rc == AIINFRA_OK) rc = aii_memory_check_text("the conversation", conversation, MAX_NAME, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_init(&json, &memory->db->rt->mem, 0);
  rc = aii_memory_summaries(memory, conversation, &json, err);
  if (rc == AIINFRA_OK) rc = aii_buf_export(&json, out_json, err);
  aii_buf_free(&json);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "read the summaries");
}
