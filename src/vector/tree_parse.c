/* tree_parse.c - reads the stages of a query. What is not understood, or would not be used, is refused by name.
 *
 * A stage: {"prefetch": [STAGE, ...], "query": ..., "vector": ..., "using": "image", "text": "..", "filter": {...},
 *           "limit": 10, "offset": 0, "score_threshold": 0.5, "mmr": {...}, "group": {...}, "params": {"exact": true, "hnsw_ef": 64}}
 * where "query" is an example, or an object with one of nearest, recommend, discover, context, fusion, rrf, weighted and
 * formula (the last with "defaults" beside it). "group" is the outermost stage's alone.
 */
#include <stdio.h>

#include "lib/json/json.h"
#include "src/vector/tree.h"

enum { LIMIT = 10, MAX_LIMIT = 1 << 20, MAX_EF = 1 << 20, FUSE_DEPTH = 60, MMR_DEPTH = 64 };

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a query");
}

/* ---- stages ---------------------------------------------------------------------------------------------------- */

static aiinfra_status new_stage(aii_tree *tree, aii_stage *parent, const char *path, aii_stage **out,
                                aiinfra_error *err)
{
  *out = NULL;
  if (tree->n_stages == AII_STAGES) return aii_fail(err, AIINFRA_EINVAL, "%s: more than %d stages", path, AII_STAGES);
  uint32_t depth = parent != NULL ? parent->depth + 1 : 1;
  if (depth > AII_STAGE_DEPTH) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: stages are deeper than %d", path, AII_STAGE_DEPTH);
  }
  aii_stage *stage = aii_new(tree->store->index.mem, sizeof *stage);
  if (stage == NULL) return no_memory(err);
  tree->stages[tree->n_stages++] = stage;
  stage->s.store = stage->s.target = tree->store;
  stage->s.n_rankings = 1;
  stage->s.q = &stage->q;
  stage->s.open = true;
  stage->s.o.group_size = 1;
  stage->q = (aiinfra_query)AIINFRA_QUERY_INIT;
  stage->depth = depth;
  stage->parent = parent;
  stage->filter = AII_NO_NODE;
  aii_idmap_init(&stage->at, tree->store->index.mem);
  aii_keys_init(&stage->keys, tree->store->index.mem);
  aii_buf_init(&stage->doc, tree->store->index.mem, 0);
  if (parent != NULL) {
    aii_stage **link = &parent->child;
    while (*link != NULL) link = &(*link)->next;
    *link = stage;
    parent->n_children++;
  }
  *out = stage;
  return AIINFRA_OK;
}

static void free_stage(aii_stage *stage)
{
  aii_mem *mem = stage->s.store->index.mem;
  aii_formula_free(stage->formula);
  aii_mask_free(stage->s.store, &stage->passing);
  aii_idmap_free(&stage->at);
  aii_keys_free(&stage->keys);
  aii_buf_free(&stage->doc);
  aii_del(mem, stage->slots, stage->n_room * sizeof *stage->slots);
  aii_del(mem, stage->ranks, stage->n_room * stage->n_children * sizeof *stage->ranks);
  aii_search_free(&stage->s);
  aii_del(mem, stage, sizeof *stage);
}

void aii_tree_clear(aii_tree *tree)
{
  for (uint32_t i = 0; i < tree->n_stages; i++) free_stage(tree->stages[i]);
  tree->n_stages = 0;
}

void aii_tree_free(aii_tree *tree)
{
  aii_mem *mem = tree->store->index.mem;
  aii_tree_clear(tree);
  for (size_t i = 0; i < tree->n_filters; i++) {
    aii_strfree(mem, tree->filters[i].text);
    aii_filter_free(tree->filters[i].filter);
    aii_mask_free(tree->store, &tree->filters[i].mask);
  }
  aii_del(mem, tree->filters, tree->filters_cap * sizeof *tree->filters);
}

/* ---- filters --------------------------------------------------------------------------------------------------- */

/* The number of a filter; equal ones are the same. */
static aiinfra_status add_filter(aii_tree *tree, const char *text, uint32_t *out, aiinfra_error *err)
{
  aii_mem *mem = tree->store->index.mem;
  for (size_t i = 0; i < tree->n_filters; i++) {
    *out = (uint32_t)i;
    if (strcmp(tree->filters[i].text, text) == 0) return AIINFRA_OK;
  }
  if (!aii_grow(mem, &tree->filters, &tree->filters_cap, tree->n_filters + 1, sizeof *tree->filters)) {
    return no_memory(err);
  }
  aii_tree_filter next = {.text = aii_strdup(mem, text)};
  if (next.text == NULL) return no_memory(err);
  aiinfra_status rc = aii_filter_compile(mem, text, &next.filter, err);
  if (rc != AIINFRA_OK) {
    aii_strfree(mem, next.text);
    return rc;
  }
  *out = (uint32_t)tree->n_filters;
  tree->filters[tree->n_filters++] = next;
  return AIINFRA_OK;
}

static aiinfra_status read_filter(aii_tree *tree, aii_stage *stage, const json_t *obj, const char *path,
                                  aiinfra_error *err)
{
  aii_buf text;
  if (!aii_json_has(obj, "filter")) return AIINFRA_OK;
  aii_buf_init(&text, tree->store->index.mem, 0);
  aiinfra_status rc = aii_json_dump(json_object_get(obj, "filter"), &text) ? AIINFRA_OK : no_memory(err);
  if (rc == AIINFRA_OK) {
    rc = add_filter(tree, aii_buf_cstr(&text), &stage->filter, err);
    if (rc != AIINFRA_OK) (void)aii_wrap(err, rc, "%s", path);
  }
  aii_buf_free(&text);
  return rc;
}

/* ---- what a stage searches by ---------------------------------------------------------------------------------- */

static const char *const VARIANTS[] = {"nearest", "recommend", "discover", "context",
                                       "fusion",  "rrf",       "weighted", "formula"};

static aiinfra_status find_variant(const json_t *query, const char *path, const char **out, aiinfra_error *err)
{
  void *only = json_object_iter((json_t *)(uintptr_t)query);
  const char *name = only != NULL ? json_object_iter_key(only) : "";
  bool defaults = json_object_get(query, "defaults") != NULL;
  *out = NULL;
  if (json_object_get(query, "formula") != NULL) name = "formula";
  for (size_t i = 0; i < AII_COUNT(VARIANTS); i++) {
    if (strcmp(VARIANTS[i], name) == 0) *out = VARIANTS[i];
  }
  if (*out == NULL) return aii_fail(err, AIINFRA_EINVAL, "%s.query: there is no query '%.64s'", path, name);
  bool formula = strcmp(*out, "formula") == 0;
  if (json_object_size(query) == (size_t)(formula && defaults ? 2 : 1)) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "%s.query: expected %s alone", path, *out);
}

static aiinfra_status read_query(aii_stage *stage, const json_t *query, const char *path, aiinfra_error *err)
{
  const char *name;
  char at[160];
  (void)snprintf(at, sizeof at, "%.140s.query", path);
  if (!json_is_object(query) || aii_stage_is_vector(query)) return aii_stage_vector(stage, query, at, err);
  aiinfra_status rc = find_variant(query, path, &name, err);
  if (rc != AIINFRA_OK) return rc;
  if (strcmp(name, "nearest") == 0) return aii_stage_vector(stage, json_object_get(query, name), at, err);
  if (strcmp(name, "formula") == 0) {
    stage->kind = AII_STAGE_FORMULA; /* compiled when the lists are known whose scores it may use */
    return AIINFRA_OK;
  }
  if (strcmp(name, "discover") == 0 || strcmp(name, "context") == 0) return aii_discover_parse(stage, query, at, err);
  if (strcmp(name, "recommend") != 0) return aii_fuse_parse(stage, query, at, err);
  if (stage->s.o.positive != NULL || stage->s.o.negative != NULL) {
    return aii_fail(err, AIINFRA_EINVAL, "%s.query: there is a recommendation already", path);
  }
  stage->kind = AII_STAGE_RECOMMEND;
  rc = aii_query_opts_recommend(query, at, &stage->s.o, err);
  if (rc == AIINFRA_OK && stage->s.o.positive == NULL && stage->s.o.negative == NULL) {
    rc = aii_fail(err, AIINFRA_EINVAL, "%s.recommend: expected an object, found null", at);
  }
  return rc;
}

static aiinfra_status read_params(aii_stage *stage, const json_t *obj, const char *path, aiinfra_error *err)
{
  static const char *const names[] = {"exact", "hnsw_ef", NULL};
  json_t *params = NULL;
  bool exact = false;
  int64_t ef = 0;
  char at[160];
  aiinfra_status rc = aii_json_get_object(obj, path, "params", false, &params, err);
  if (rc != AIINFRA_OK || params == NULL) return rc;
  (void)snprintf(at, sizeof at, "%.140s.params", path);
  rc = aii_check_names(params, at, names, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_bool(params, at, "exact", false, &exact, err);
  if (rc == AIINFRA_OK) rc = aii_json_within(params, at, "hnsw_ef", 0, MAX_EF, &ef, err);
  stage->q.mode = exact ? AIINFRA_SEARCH_EXACT : AIINFRA_SEARCH_AUTO;
  stage->q.ef = (uint32_t)ef;
  return rc;
}

/* ---- what a stage is ------------------------------------------------------------------------------------------- */

static bool has_vector(const aii_stage *stage)
{
  return stage->vector != NULL || stage->q.vector != NULL;
}

/* Its vector, or its words, as a stage of their own. */
static aiinfra_status add_implicit(aii_tree *tree, aii_stage *stage, bool words, const char *path, aiinfra_error *err)
{
  aii_stage *child;
  const aii_query_opts *o = &stage->s.o;
  aiinfra_status rc = new_stage(tree, stage, path, &child, err);
  if (rc != AIINFRA_OK) return rc;
  size_t wanted = (size_t)o->offset + stage->q.k, depth = AII_MAX(4 * wanted, (size_t)FUSE_DEPTH);
  if (o->mmr) depth = AII_MAX(depth, AII_MAX((size_t)o->candidates, (size_t)MMR_DEPTH));
  child->implicit = true;
  if (!words) child->s.target = stage->s.target;
  child->s.o.multi = words ? 0 : stage->s.o.multi;
  child->q.text = words ? stage->q.text : NULL;
  child->q.vector = words ? NULL : stage->q.vector;
  child->vector = words ? NULL : stage->vector;
  child->q.mode = stage->q.mode;
  child->q.ef = stage->q.ef;
  child->q.k = (uint32_t)depth;
  child->s.all = stage->kind == AII_STAGE_FORMULA || o->group_by != NULL;
  child->s.wants_vectors = !words;
  if (child->s.all) child->s.exact = "a formula, or groups, want every row that passes";
  return AIINFRA_OK;
}

/* A fusion or a formula is about its prefetches, or about its own vector and words. */
static aiinfra_status complete_combination(aii_tree *tree, aii_stage *stage, const json_t *query, const char *path,
                                           aiinfra_error *err)
{
  bool fuses = stage->kind == AII_STAGE_FUSION, own = has_vector(stage) || stage->q.text != NULL;
  aiinfra_status rc = AIINFRA_OK;
  stage->s.scored = true;
  stage->narrowed = stage->n_children > 0 || fuses;
  if (stage->n_children > 0 && own) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: a vector or text beside prefetch and this query would not be used", path);
  }
  if (stage->n_children == 0 && fuses && !(has_vector(stage) && stage->q.text != NULL)) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: nothing to fuse: give prefetch, or both a vector and a text", path);
  }
  if (stage->n_children == 0 && has_vector(stage)) rc = add_implicit(tree, stage, false, path, err);
  if (rc == AIINFRA_OK && stage->q.text != NULL) rc = add_implicit(tree, stage, true, path, err);
  stage->vector = NULL; /* it is the child's now */
  stage->q.vector = NULL;
  stage->q.text = NULL;
  if (rc != AIINFRA_OK) return rc;
  if (fuses && stage->fuse.weights != NULL && json_array_size(stage->fuse.weights) != stage->n_children) {
    return aii_fail(err, AIINFRA_EINVAL, "%s.query: %zu weights for %u lists", path,
                    json_array_size(stage->fuse.weights), stage->n_children);
  }
  if (fuses) return AIINFRA_OK;
  return aii_formula_compile(tree->store->index.mem, query, path, stage->n_children, &stage->formula, err);
}

static aiinfra_status complete(aii_tree *tree, aii_stage *stage, const json_t *query, const char *path,
                               aiinfra_error *err)
{
  bool vector = has_vector(stage), text = stage->q.text != NULL;
  bool examples = stage->s.o.positive != NULL || stage->s.o.negative != NULL;
  stage->narrowed = stage->n_children > 0;
  if (stage->narrowed) stage->s.exact = "the hits of its prefetches are compared";
  if (examples && stage->kind != AII_STAGE_RECOMMEND) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: a recommendation beside this query would not be used", path);
  }
  aiinfra_status rc = aii_stage_check_using(stage, path, err);
  if (rc != AIINFRA_OK) return rc;
  if (stage->kind == AII_STAGE_FUSION || stage->kind == AII_STAGE_FORMULA) {
    return complete_combination(tree, stage, query, path, err);
  }
  if (stage->kind == AII_STAGE_NEAREST && !vector && !text) {
    return aii_fail(err, AIINFRA_EINVAL,
                    stage->n_children > 0 ? "%s: nothing says what becomes of prefetch; give query, such as "
                                            "{\"fusion\": \"rrf\"}"
                                          : "%s: there is neither vector nor text nor query",
                    path);
  }
  bool by_rows = stage->kind == AII_STAGE_DISCOVER || stage->kind == AII_STAGE_CONTEXT;
  if (stage->kind != AII_STAGE_NEAREST && (vector || (text && (by_rows || stage->s.o.best_score)))) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: a vector or text beside this query would not be used", path);
  }
  stage->s.wants_vectors = vector || stage->kind == AII_STAGE_RECOMMEND;
  stage->s.scored = by_rows;
  if (stage->s.wants_vectors && text) stage->s.n_rankings = 2;
  return AIINFRA_OK;
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

static aiinfra_status parse_stage(aii_tree *tree, const json_t *obj, aii_stage *parent, const char *path,
                                  const char *const *more, aiinfra_error *err);

/* The prefetches, then the query, which is about them. Bounded by AII_STAGE_DEPTH. */
static aiinfra_status parse_inner(aii_tree *tree, aii_stage *stage, const json_t *obj, const char *path,
                                  aiinfra_error *err)
{
  static const char *const none[] = {NULL};
  const json_t *prefetch = json_object_get(obj, "prefetch"), *query = json_object_get(obj, "query");
  bool one = json_is_object(prefetch);
  char at[160];
  size_t n = one ? 1 : json_array_size(prefetch);
  if (aii_json_has(obj, "prefetch") && ((!one && !json_is_array(prefetch)) || n > AII_FUSED)) {
    return aii_fail(err, AIINFRA_EINVAL, "%s.prefetch is not an array of up to %d stages", path, AII_FUSED);
  }
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) {
    (void)snprintf(at, sizeof at, "%.120s.prefetch[%zu]", path, i);
    rc = parse_stage(tree, one ? prefetch : json_array_get(prefetch, i), stage, at, none, err);
  }
  if (rc == AIINFRA_OK && aii_json_has(obj, "query")) rc = read_query(stage, query, path, err);
  return rc == AIINFRA_OK ? complete(tree, stage, query, path, err) : rc;
}

static aiinfra_status check_stage(const json_t *obj, const aii_stage *stage, const char *path, const char *const *more,
                                  aiinfra_error *err)
{
  static const char *const members[] = {"prefetch", "query",  "vector",          "using", "text",  "filter",
                                        "limit",    "offset", "score_threshold", "mmr",   "group", "params"};
  const char *name;
  json_t *value;
  if (!json_is_object(obj)) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: expected an object, found %s", path, aii_json_type(obj));
  }
  json_object_foreach((json_t *)(uintptr_t)obj, name, value)
  {
    bool known = false;
    (void)value;
    for (size_t i = 0; i < AII_COUNT(members); i++) known = known || strcmp(members[i], name) == 0;
    for (size_t i = 0; more[i] != NULL; i++) known = known || strcmp(more[i], name) == 0;
    if (!known) return aii_fail(err, AIINFRA_EINVAL, "%s: there is no member '%.64s'", path, name);
  }
  if (stage->parent == NULL || !aii_json_has(obj, "group")) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "%s: group is the outermost stage's alone", path);
}

static aiinfra_status parse_stage(aii_tree *tree, const json_t *obj, aii_stage *parent, const char *path,
                                  const char *const *more, aiinfra_error *err)
{
  aii_stage *stage;
  int64_t limit = LIMIT;
  aiinfra_status rc = new_stage(tree, parent, path, &stage, err);
  if (rc == AIINFRA_OK) rc = check_stage(obj, stage, path, more, err);
  if (rc == AIINFRA_OK) rc = aii_json_within(obj, path, "limit", 1, MAX_LIMIT, &limit, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(obj, path, "text", false, &stage->q.text, err);
  if (rc == AIINFRA_OK) rc = aii_query_opts_take(obj, path, &stage->s.o, err);
  if (rc == AIINFRA_OK) rc = read_params(stage, obj, path, err);
  if (rc == AIINFRA_OK) rc = read_filter(tree, stage, obj, path, err);
  if (rc == AIINFRA_OK) rc = aii_stage_using(stage, obj, path, err);
  if (rc == AIINFRA_OK && aii_json_has(obj, "vector")) {
    rc = aii_stage_vector(stage, json_object_get(obj, "vector"), path, err);
  }
  if (rc != AIINFRA_OK) return rc;
  stage->q.k = (uint32_t)limit;
  return parse_inner(tree, stage, obj, path, err);
}

aiinfra_status aii_tree_parse(aii_tree *tree, const json_t *query, const char *path, const char *const *more,
                              aiinfra_error *err)
{
  return parse_stage(tree, query, NULL, path, more, err);
}

aiinfra_status aii_tree_take(aii_tree *tree, const aiinfra_query *q, const json_t *options, aiinfra_error *err)
{
  aii_stage *stage;
  aiinfra_status rc = new_stage(tree, NULL, "options", &stage, err);
  if (rc != AIINFRA_OK) return rc;
  stage->q = *q;
  rc = aii_query_opts_take(options, "options", &stage->s.o, err);
  if (rc == AIINFRA_OK) rc = aii_query_opts_recommend(options, "options", &stage->s.o, err);
  if (rc == AIINFRA_OK) rc = aii_stage_using(stage, options, "options", err);
  if (rc == AIINFRA_OK) rc = aii_stage_given(stage, options, err);
  if (stage->s.o.positive != NULL || stage->s.o.negative != NULL) stage->kind = AII_STAGE_RECOMMEND;
  if (rc == AIINFRA_OK && q->filter_json != NULL) rc = add_filter(tree, q->filter_json, &stage->filter, err);
  return rc == AIINFRA_OK ? parse_inner(tree, stage, options, "options", err) : rc;
}
