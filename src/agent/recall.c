/* recall.c - what a run knows before the model is asked: history, facts, passages, and the system message of these.
 *
 * Happy path, as one job: read the conversation's last messages; look for passages and facts that fit the input; keep
 * the input as a fact when it is a statement (after the search, so that it is not told back); compose the message. With a
 * budget of tokens passages are packed: neighbours in a document become one, and as many stay as fit.
 * Possible failures: the disk, memory. Keeping the same fact twice is one fact, so a repeated recall does no harm.
 * Thread: the pool.
 */
#include "src/agent/agent.h"

#include "src/memory/memory.h"

#define MAX_HISTORY 24u /* messages of the conversation put before the input */
#define MAX_FACTS 8u

/* Takes over text, exported by the library. */
static aiinfra_status parse(char *text, const char *what, json_t **out, aiinfra_error *err)
{
  aiinfra_status rc = aii_json_parse(text, strlen(text), what, 0, out, err);
  aiinfra_string_free(text);
  return rc;
}

static bool is_role(const json_t *message, const char *role)
{
  const char *have = json_string_value(json_object_get(message, "role"));
  return have != NULL && strcmp(have, role) == 0;
}

/* History begins with the user's turn: what an earlier cut left of a turn is dropped. */
static aiinfra_status load_history(const aii_recall *r, json_t **out, aiinfra_error *err)
{
  char *text = NULL;
  aiinfra_status rc;
  if (r->memory == NULL || r->conversation == NULL) {
    *out = json_array();
    return *out != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "history");
  }
  rc = aiinfra_memory_history(r->memory, r->conversation, MAX_HISTORY, &text, err);
  if (rc == AIINFRA_OK) rc = parse(text, "history", out, err);
  if (rc != AIINFRA_OK) return rc;
  while (json_array_size(*out) > 0 && !is_role(json_array_get(*out, 0), "user")) json_array_remove(*out, 0);
  return AIINFRA_OK;
}

static aiinfra_status search(const aii_recall *r, int32_t kind, uint32_t k, json_t **out, aiinfra_error *err)
{
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  char *text = NULL;
  aiinfra_status rc;
  if (r->memory == NULL || !r->search || r->input[0] == '\0') {
    *out = json_array();
    return *out != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "recall");
  }
  opts.k = k;
  opts.kind = kind;
  opts.max_bytes = r->max_bytes;
  rc = aiinfra_memory_recall(r->memory, r->input, &opts, &text, err);
  return rc == AIINFRA_OK ? parse(text, "recalled items", out, err) : rc;
}

/* A packed source as an item that was recalled; NULL: memory ran out. */
static json_t *item_of(const json_t *source)
{
  const char *document = json_string_value(json_object_get(source, "document"));
  json_int_t begin = json_integer_value(json_object_get(source, "begin"));
  return json_pack("{ss, sI, sI, sO, sO}", "source", document != NULL ? document : "", "first_byte", begin, "n_bytes",
                   json_integer_value(json_object_get(source, "end")) - begin, "score",
                   json_object_get(source, "score"), "text", json_object_get(source, "text"));
}

/* Passages within the budget, neighbours as one. */
static aiinfra_status pack(aiinfra_db *db, const aii_recall *r, json_t **out, aiinfra_error *err)
{
  aii_pack how = {.recall = AIINFRA_RECALL_OPTS_INIT, .budget = r->budget_tokens, .model = r->model, .texts = true};
  json_t *packed = NULL, *source;
  aii_buf json;
  size_t i;
  how.recall.k = r->k;
  how.recall.kind = AIINFRA_MEMORY_PASSAGE;
  how.recall.max_bytes = r->max_bytes;
  aii_buf_init(&json, &db->rt->mem, 0);
  aiinfra_status rc = aii_memory_check_text("the question", r->input, AII_FACT_BYTES, err);
  if (rc == AIINFRA_OK) rc = aii_memory_pack(r->memory, r->input, &how, &json, err);
  if (rc == AIINFRA_OK && json.failed) rc = aii_fail(err, AIINFRA_ENOMEM, "recall");
  if (rc == AIINFRA_OK) rc = aii_json_parse(aii_buf_cstr(&json), json.len, "packed passages", 0, &packed, err);
  aii_buf_free(&json);
  if (rc != AIINFRA_OK) return rc;
  *out = json_array();
  json_array_foreach(json_object_get(packed, "sources"), i, source)
  {
    if (json_array_append_new(*out, item_of(source)) == 0) continue;
    json_decref(*out);
    *out = NULL;
    break;
  }
  json_decref(packed);
  return *out != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "recall");
}

static aiinfra_status load_passages(aiinfra_db *db, const aii_recall *r, json_t **out, aiinfra_error *err)
{
  bool looks = r->memory != NULL && r->search && r->input[0] != '\0';
  return looks && r->budget_tokens > 0 ? pack(db, r, out, err) : search(r, AIINFRA_MEMORY_PASSAGE, r->k, out, err);
}

static aiinfra_status load_blocks(const aii_recall *r, json_t **out, aiinfra_error *err)
{
  char *text = NULL;
  aiinfra_status rc;
  if (r->memory == NULL || !r->search) {
    *out = json_object();
    return *out != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "working memory");
  }
  rc = aiinfra_memory_blocks(r->memory, &text, err);
  return rc == AIINFRA_OK ? parse(text, "working memory", out, err) : rc;
}

static json_t *or_zero(json_t *value)
{
  return value != NULL ? json_incref(value) : json_integer(0);
}

/* Recalled items as the journal and the events have them, numbered from 1. */
static json_t *number_passages(const json_t *items)
{
  json_t *out = json_array(), *item;
  size_t i;
  json_array_foreach(items, i, item)
  {
    const char *source = json_string_value(json_object_get(item, "source"));
    json_t *passage = json_pack(
        "{sI, ss, so, so, so, sO}", "n", (json_int_t)i + 1, "source", source != NULL ? source : "", "first_byte",
        or_zero(json_object_get(item, "first_byte")), "n_bytes", or_zero(json_object_get(item, "n_bytes")), "score",
        or_zero(json_object_get(item, "score")), "text", json_object_get(item, "text"));
    if (out == NULL || json_array_append_new(out, passage) != 0) {
      json_decref(out);
      return NULL;
    }
  }
  return out;
}

static json_t *fact_texts(const json_t *items)
{
  json_t *out = json_array(), *item;
  size_t i;
  json_array_foreach(items, i, item)
  {
    if (out == NULL || json_array_append(out, json_object_get(item, "text")) != 0) {
      json_decref(out);
      return NULL;
    }
  }
  return out;
}

static aiinfra_status keep_statement(aiinfra_db *db, const aii_recall *r, aii_events *events, aiinfra_error *err)
{
  aii_buf text;
  int64_t id = 0;
  aiinfra_status rc = AIINFRA_OK;
  if (r->memory == NULL || !r->search) return AIINFRA_OK;
  aii_buf_init(&text, &db->rt->mem, 0);
  if (aii_prompt_statement(r->input, &text)) {
    rc = text.failed ? aii_fail(err, AIINFRA_ENOMEM, "statement")
                     : aiinfra_memory_remember(r->memory, text.data, NULL, &id, err);
    if (rc == AIINFRA_OK)
      rc = aii_events_add(events, &db->rt->mem, AII_EV_REMEMBERED,
                          json_pack("{ss, sI}", "text", text.data, "id", (json_int_t)id), err);
  }
  aii_buf_free(&text);
  return rc;
}

aiinfra_status aii_recall_run(aiinfra_db *db, const aii_recall *r, aii_events *events, aiinfra_error *err)
{
  json_t *history = NULL, *passages = NULL, *facts = NULL, *blocks = NULL, *numbered = NULL;
  uint64_t start = aii_now_ns();
  aii_buf system;
  aiinfra_status rc;
  aii_buf_init(&system, &db->rt->mem, 0);
  rc = load_history(r, &history, err);
  if (rc == AIINFRA_OK) rc = load_passages(db, r, &passages, err);
  if (rc == AIINFRA_OK) rc = search(r, AIINFRA_MEMORY_FACT, MAX_FACTS, &facts, err);
  if (rc == AIINFRA_OK) rc = load_blocks(r, &blocks, err);
  if (rc == AIINFRA_OK) rc = keep_statement(db, r, events, err);
  if (rc != AIINFRA_OK) goto done;

  aii_prompt_system(&system, r->instructions, passages, facts, blocks);
  numbered = number_passages(passages);
  if (numbered == NULL || system.failed) {
    rc = aii_fail(err, AIINFRA_ENOMEM, "recall");
    goto done;
  }
  rc = aii_events_add(events, &db->rt->mem, AII_EV_RECALLED,
                      json_pack("{ss%, sO, sO, so, sf}", "system", aii_buf_cstr(&system), system.len, "history",
                                history, "passages", numbered, "facts", fact_texts(facts), "ms",
                                (double)(aii_now_ns() - start) * 1e-6),
                      err);
done:
  json_decref(history);
  json_decref(passages);
  json_decref(facts);
  json_decref(blocks);
  json_decref(numbered);
  aii_buf_free(&system);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "recall");
}
