/* pack.c - what was recalled as one text for a prompt: within a budget of tokens, and with its sources.
 *
 * The happy path is: recall -> a reranker may score what was found anew -> in the order of the scores each item is added
 * if the whole text still fits -> passages that follow each other in their document stand together, as one source.
 * What says the same as something before it is left out. When not even the first item fits, it is cut.
 *
 *   [1] docs/server.md > Guide > Limits
 *   The text of passages that follow each other.
 *
 *   [2]
 *   A fact.
 *
 * What can fail: the database, the reranker, the tokenizer, memory. Any thread.
 */
#include "lib/json/json.h"
#include "src/memory/memory.h"

typedef struct entry {
  const json_t *item;
  const char *text, *headings, *source;
  size_t n;            /* bytes of the text; fewer than it has when it was cut */
  char *normal;        /* the normalised text */
  int64_t id, next_id; /* of the passage behind it in its document; 0: none */
  size_t first, end;   /* bytes of the document */
  double score;
  bool fact, chosen, told, cut;
  struct entry *next; /* chosen and behind it */
  bool follows;       /* another chosen one stands before it */
} entry;

typedef struct packer {
  aiinfra_memory *memory;
  const aii_pack *how;
  entry *entries;
  size_t n;
  json_t *items;
  aii_buf text;
  size_t tokens, n_same;
} packer;

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory to pack");
}

/* ---- reading what was recalled ------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key)
{
  const char *s = json_string_value(json_object_get(object, key));
  return s != NULL ? s : "";
}

static bool fill(packer *p, entry *e, const json_t *item)
{
  aii_buf normal;
  e->item = item;
  e->text = text_of(item, "text");
  e->n = strlen(e->text);
  e->source = text_of(item, "source");
  e->headings = text_of(json_object_get(item, "metadata"), "headings");
  e->fact = strcmp(text_of(item, "kind"), "fact") == 0;
  if (e->fact) e->headings = "";
  e->id = json_integer_value(json_object_get(item, "id"));
  e->first = (size_t)json_integer_value(json_object_get(item, "first_byte"));
  e->end = e->first + (size_t)json_integer_value(json_object_get(item, "n_bytes"));
  e->score = json_number_value(json_object_get(item, "score"));
  aii_buf_init(&normal, &p->memory->db->rt->mem, 0);
  aii_normalise(e->text, e->n, &normal);
  if (!normal.failed) e->normal = aii_strdup(normal.mem, aii_buf_cstr(&normal));
  aii_buf_free(&normal);
  return e->normal != NULL;
}

static aiinfra_status find_next(packer *p, entry *e, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  if (e->fact) return AIINFRA_OK;
  aiinfra_status rc =
      aii_sql_prepare(p->memory->db->sql,
                      "SELECT i.id FROM items e JOIN items i ON i.document = e.document WHERE e.id = ?1 AND "
                      "e.scope = ?2 AND i.scope = ?2 AND (i.first_byte, i.id) > (e.first_byte, e.id) "
                      "ORDER BY i.first_byte, i.id LIMIT 1",
                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, e->id);
  aii_stmt_int(stmt, 2, p->memory->scope);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) e->next_id = aii_stmt_get_int(stmt, 0);
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status recall(packer *p, const char *question, aiinfra_error *err)
{
  aii_mem *mem = &p->memory->db->rt->mem;
  aii_buf json;
  aii_buf_init(&json, mem, 0);
  aiinfra_status rc = aii_memory_recall(p->memory, question, &p->how->recall, &json, err);
  if (rc == AIINFRA_OK && json.failed) rc = no_memory(err);
  if (rc == AIINFRA_OK) rc = aii_json_parse(json.data, json.len, "what was recalled", 0, &p->items, err);
  aii_buf_free(&json);
  if (rc != AIINFRA_OK || json_array_size(p->items) == 0) return rc;
  p->entries = aii_new_array(mem, json_array_size(p->items), sizeof *p->entries);
  if (p->entries == NULL) return no_memory(err);
  p->n = json_array_size(p->items);
  for (size_t i = 0; i < p->n; i++) {
    if (!fill(p, &p->entries[i], json_array_get(p->items, i))) return no_memory(err);
  }
  aii_sql_lock(p->memory->db->sql);
  for (size_t i = 0; rc == AIINFRA_OK && i < p->n; i++) rc = find_next(p, &p->entries[i], err);
  aii_sql_unlock(p->memory->db->sql);
  return rc;
}

/* Best first; what scores alike keeps its order. */
static void sort(entry *entries, size_t n)
{
  for (size_t i = 1; i < n; i++) {
    entry e = entries[i];
    size_t at = i;
    for (; at > 0 && entries[at - 1].score < e.score; at--) entries[at] = entries[at - 1];
    entries[at] = e;
  }
}

static aiinfra_status rerank(packer *p, const char *question, aiinfra_error *err)
{
  aii_mem *mem = &p->memory->db->rt->mem;
  if (p->how->rerank == NULL || p->n == 0) return AIINFRA_OK;
  const char **texts = aii_new_array(mem, p->n, sizeof *texts);
  float *scores = aii_new_array(mem, p->n, sizeof *scores);
  aiinfra_status rc = texts != NULL && scores != NULL ? AIINFRA_OK : no_memory(err);
  for (size_t i = 0; rc == AIINFRA_OK && i < p->n; i++) texts[i] = p->entries[i].text;
  if (rc == AIINFRA_OK && p->how->rerank(p->how->rerank_user, question, texts, p->n, scores) != 0)
    rc = aii_fail(err, AIINFRA_ECANCELED, "the reranker failed");
  for (size_t i = 0; rc == AIINFRA_OK && i < p->n; i++) p->entries[i].score = (double)scores[i];
  for (size_t i = 0; rc == AIINFRA_OK && i < p->n; i++) {
    if (scores[i] != scores[i]) rc = aii_fail(err, AIINFRA_EINVAL, "the reranker gave no number for text %zu", i);
  }
  if (rc == AIINFRA_OK) sort(p->entries, p->n);
  aii_del(mem, texts, p->n * sizeof *texts);
  aii_del(mem, scores, p->n * sizeof *scores);
  return rc;
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

static aiinfra_status measure(const packer *p, const char *s, size_t n, size_t *tokens, aiinfra_error *err)
{
  if (p->how->model == NULL) {
    *tokens = (n + 3) / 4;
    return AIINFRA_OK;
  }
  aiinfra_status rc = aiinfra_model_tokenize(p->how->model, s, n, 0, NULL, 0, tokens, err);
  return rc == AIINFRA_ENOSPC ? AIINFRA_OK : rc;
}

/* Links each chosen passage with the one behind it, if that is chosen too. */
static void link_all(packer *p)
{
  for (size_t i = 0; i < p->n; i++) {
    p->entries[i].next = NULL;
    p->entries[i].follows = p->entries[i].told = false;
  }
  for (size_t i = 0; i < p->n; i++) {
    entry *e = &p->entries[i];
    for (size_t k = 0; e->chosen && e->next_id != 0 && k < p->n; k++) {
      if (!p->entries[k].chosen || p->entries[k].id != e->next_id) continue;
      e->next = &p->entries[k];
      p->entries[k].follows = true;
    }
  }
}

/* The first of the run that an entry is in. */
static entry *first_of(packer *p, entry *e)
{
  while (e->follows) {
    size_t i = 0;
    while (p->entries[i].next != e) i++;
    e = &p->entries[i];
  }
  return e;
}

/* How many bytes at the start of b only repeat the end of a. */
static size_t repeated(const entry *a, const entry *b)
{
  if (b->first >= a->end) return 0;
  size_t most = a->end - b->first, n = AII_MIN(a->n, b->n);
  if (most < n / 4) n = 4 * most; /* of the document, which may say it in other bytes */
  for (; n > 0; n--) {
    if (memcmp(a->text + a->n - n, b->text, n) == 0) return n;
  }
  return 0;
}

/* The text of passages that follow each other. */
static void write_texts(entry *first, aii_buf *out)
{
  const entry *before = NULL;
  for (entry *e = first; e != NULL; before = e, e = e->next) {
    size_t skip = before != NULL ? repeated(before, e) : 0;
    if (before != NULL && skip == 0) aii_buf_str(out, "\n\n");
    if (before != NULL && strcmp(before->headings, e->headings) != 0) aii_buf_fmt(out, "%s:\n", e->headings);
    aii_buf_add(out, e->text + skip, e->n - skip);
    e->told = true;
  }
}

static void write_run(packer *p, entry *first, size_t number)
{
  aii_buf *out = &p->text;
  aii_buf_fmt(out, "%s[%zu]", number > 1 ? "\n\n" : "", number);
  if (*first->source != '\0') aii_buf_fmt(out, " %s", first->source);
  if (*first->headings != '\0') aii_buf_fmt(out, " > %s", first->headings);
  aii_buf_char(out, '\n');
  write_texts(first, out);
}

/* Writes all that is chosen and counts it. */
static aiinfra_status render(packer *p, aiinfra_error *err)
{
  size_t number = 0;
  link_all(p);
  aii_buf_clear(&p->text);
  for (size_t i = 0; i < p->n; i++) {
    if (p->entries[i].chosen && !p->entries[i].told) write_run(p, first_of(p, &p->entries[i]), ++number);
  }
  if (p->text.failed) return no_memory(err);
  return measure(p, aii_buf_cstr(&p->text), p->text.len, &p->tokens, err);
}

/* ---- choosing ------------------------------------------------------------------------------------------------------ */

static bool said_before(const packer *p, size_t at)
{
  for (size_t i = 0; i < at; i++) {
    if (p->entries[i].chosen && strcmp(p->entries[i].normal, p->entries[at].normal) == 0) return true;
  }
  return false;
}

/* Takes as much of an entry that is too large as fits: it stands alone. */
static aiinfra_status cut_first(packer *p, entry *e, aiinfra_error *err)
{
  size_t whole = e->n, low = 0, high = e->n;
  while (high - low > 1) {
    e->n = low + (high - low) / 2;
    aiinfra_status rc = render(p, err);
    if (rc != AIINFRA_OK) return rc;
    if (p->tokens <= p->how->budget) low = e->n;
    else high = e->n;
  }
  for (e->n = low; e->n > 0; e->n--) {
    if (low == 0) break;
    e->n = aii_cut_where(e->text, whole, e->n, AII_BLOCK_PROSE, AII_CUT_STRUCTURE);
    aiinfra_status rc = e->n <= low ? render(p, err) : AIINFRA_OK;
    if (rc != AIINFRA_OK) return rc;
    if (e->n <= low && p->tokens <= p->how->budget) break;
    if (e->n > low) e->n = 1; /* not even a character */
  }
  e->chosen = e->cut = e->n > 0;
  if (e->end - e->first == whole) e->end = e->first + e->n; /* the text is the document's own bytes */
  return render(p, err);
}

static aiinfra_status choose(packer *p, aiinfra_error *err)
{
  bool any = false;
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < p->n; i++) {
    entry *e = &p->entries[i];
    size_t alone, before = p->tokens;
    if (said_before(p, i)) {
      p->n_same++;
      continue;
    }
    rc = measure(p, e->text, e->n, &alone, err);
    /* passages that overlap are less together than alone, but not by more than half */
    if (rc != AIINFRA_OK || (any && alone / 2 + before > p->how->budget)) continue;
    e->chosen = true;
    rc = render(p, err);
    if (rc != AIINFRA_OK) break;
    if (p->tokens > p->how->budget) e->chosen = false;
    any = any || e->chosen;
  }
  if (rc == AIINFRA_OK && !any && p->n > 0) {
    p->entries[0].chosen = true;
    return cut_first(p, &p->entries[0], err);
  }
  return rc == AIINFRA_OK ? render(p, err) : rc;
}

/* ---- telling ------------------------------------------------------------------------------------------------------- */

static void tell_text(packer *p, entry *first, aii_buf *json)
{
  aii_buf text;
  aii_buf_init(&text, p->text.mem, 0);
  write_texts(first, &text);
  aii_buf_str(json, ",\"text\":");
  aii_buf_json(json, aii_buf_cstr(&text), text.len);
  if (text.failed) json->failed = true;
  aii_buf_free(&text);
}

static void tell_run(packer *p, entry *first, double score, size_t number, aii_buf *json)
{
  size_t end = first->end;
  bool was_cut = false;
  aii_buf_fmt(json, "%s{\"n\":%zu,\"kind\":\"%s\",\"ids\":[", number > 1 ? "," : "", number,
              first->fact ? "fact" : "passage");
  for (const entry *e = first; e != NULL; e = e->next) {
    aii_buf_fmt(json, "%s%lld", e == first ? "" : ",", (long long)e->id);
    end = AII_MAX(end, e->end);
    was_cut = was_cut || e->cut;
  }
  aii_buf_str(json, "],\"score\":");
  aii_buf_double(json, score, 6);
  aii_buf_fmt(json, ",\"cut\":%s,\"document\":", was_cut ? "true" : "false");
  if (*first->source != '\0') aii_buf_json(json, first->source, strlen(first->source));
  else aii_buf_str(json, "null");
  if (!first->fact) aii_buf_fmt(json, ",\"begin\":%zu,\"end\":%zu", first->first, end);
  aii_buf_str(json, ",\"headings\":");
  aii_buf_json(json, first->headings, strlen(first->headings));
  if (p->how->texts) tell_text(p, first, json);
  aii_buf_char(json, '}');
}

static void tell(packer *p, aii_buf *json)
{
  size_t number = 0, left_out = 0;
  aii_buf_str(json, "{\"text\":");
  aii_buf_json(json, aii_buf_cstr(&p->text), p->text.len);
  aii_buf_fmt(json, ",\"tokens\":%zu,\"sources\":[", p->tokens);
  for (size_t i = 0; i < p->n; i++) p->entries[i].told = false;
  for (size_t i = 0; i < p->n; i++) {
    entry *e = &p->entries[i];
    left_out += !e->chosen;
    if (!e->chosen || e->told) continue;
    entry *first = first_of(p, e);
    for (entry *run = first; run != NULL; run = run->next) run->told = true;
    tell_run(p, first, e->score, ++number, json);
  }
  aii_buf_fmt(json, "],\"same\":%zu,\"left_out\":%zu}", p->n_same, left_out - p->n_same);
}

aiinfra_status aii_memory_pack(aiinfra_memory *memory, const char *question, const aii_pack *how, aii_buf *json,
                               aiinfra_error *err)
{
  packer p = {.memory = memory, .how = how};
  aii_mem *mem = &memory->db->rt->mem;
  aii_buf_init(&p.text, mem, 0);
  aiinfra_status rc = recall(&p, question, err);
  if (rc == AIINFRA_OK) rc = rerank(&p, question, err);
  if (rc == AIINFRA_OK) rc = choose(&p, err);
  if (rc == AIINFRA_OK) tell(&p, json);
  for (size_t i = 0; i < p.n; i++) aii_strfree(mem, p.entries[i].normal);
  aii_del(mem, p.entries, p.n * sizeof *p.entries);
  json_decref(p.items);
  aii_buf_free(&p.text);
  return rc;
}
