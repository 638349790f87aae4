/* query_opts.c - reads the options of a query, or of a stage of one. What is not understood is refused, with its name. */
#include <stdio.h>

#include "lib/json/json.h"
#include "src/vector/search.h"

enum { MAX_OFFSET = 1 << 20, MAX_CANDIDATES = 1 << 16, MAX_GROUP = 1 << 10, MAX_EXAMPLES = 256 };

aiinfra_status aii_check_names(const json_t *obj, const char *path, const char *const *names, aiinfra_error *err)
{
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)(uintptr_t)obj, name, value)
  {
    size_t i = 0;
    (void)value;
    while (names[i] != NULL && strcmp(names[i], name) != 0) i++;
    if (names[i] == NULL) return aii_fail(err, AIINFRA_EINVAL, "%s: there is no option '%.64s'", path, name);
  }
  return AIINFRA_OK;
}

typedef char place[160];

/* Where a member lies: "path.name". */
static const char *below(const char *path, const char *name, place out)
{
  (void)snprintf(out, sizeof(place), "%.120s.%s", path, name);
  return out;
}

aiinfra_status aii_json_within(const json_t *obj, const char *path, const char *name, int64_t least, int64_t most,
                               int64_t *value, aiinfra_error *err)
{
  aiinfra_status rc = aii_json_get_int(obj, path, name, false, value, err);
  if (rc != AIINFRA_OK || (*value >= least && *value <= most)) return rc;
  return aii_fail(err, AIINFRA_EINVAL, "%s.%s is not %lld to %lld", path, name, (long long)least, (long long)most);
}

static aiinfra_status read_mmr(const json_t *obj, const char *path, aii_query_opts *o, aiinfra_error *err)
{
  static const char *const names[] = {"lambda", "candidates", NULL};
  json_t *mmr = NULL;
  place at;
  o->lambda = 0.5;
  aiinfra_status rc = aii_json_get_object(obj, path, "mmr", false, &mmr, err);
  if (rc != AIINFRA_OK || mmr == NULL) return rc;
  o->mmr = true;
  rc = aii_check_names(mmr, below(path, "mmr", at), names, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_num(mmr, at, "lambda", false, &o->lambda, err);
  if (rc == AIINFRA_OK) rc = aii_json_within(mmr, at, "candidates", 0, MAX_CANDIDATES, &o->candidates, err);
  if (rc == AIINFRA_OK && !(o->lambda >= 0 && o->lambda <= 1)) {
    rc = aii_fail(err, AIINFRA_EINVAL, "%s.lambda is not 0 to 1", at);
  }
  return rc;
}

static aiinfra_status read_group(const json_t *obj, const char *path, aii_query_opts *o, aiinfra_error *err)
{
  static const char *const names[] = {"by", "size", NULL};
  json_t *group = NULL;
  place at;
  o->group_size = 1;
  aiinfra_status rc = aii_json_get_object(obj, path, "group", false, &group, err);
  if (rc != AIINFRA_OK || group == NULL) return rc;
  rc = aii_check_names(group, below(path, "group", at), names, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(group, at, "by", true, &o->group_by, err);
  if (rc == AIINFRA_OK) rc = aii_json_within(group, at, "size", 1, MAX_GROUP, &o->group_size, err);
  return rc;
}

static aiinfra_status read_examples(const json_t *obj, const char *path, const char *name, const json_t **out,
                                    aiinfra_error *err)
{
  json_t *examples = NULL;
  aiinfra_status rc = aii_json_get_array(obj, path, name, false, &examples, err);
  bool ok = json_array_size(examples) <= MAX_EXAMPLES;
  for (size_t i = 0; ok && i < json_array_size(examples); i++) ok = aii_example_valid(json_array_get(examples, i));
  *out = examples;
  if (rc != AIINFRA_OK || ok) return rc;
  return aii_fail(err, AIINFRA_EINVAL, "%s.%s is not an array of up to %d ids or vectors", path, name, MAX_EXAMPLES);
}

aiinfra_status aii_query_opts_recommend(const json_t *obj, const char *path, aii_query_opts *o, aiinfra_error *err)
{
  static const char *const names[] = {"positive", "negative", "strategy", NULL};
  json_t *recommend = NULL;
  const char *strategy = "average";
  place at;
  aiinfra_status rc = aii_json_get_object(obj, path, "recommend", false, &recommend, err);
  if (rc != AIINFRA_OK || recommend == NULL) return rc;
  rc = aii_check_names(recommend, below(path, "recommend", at), names, err);
  if (rc == AIINFRA_OK) rc = read_examples(recommend, at, "positive", &o->positive, err);
  if (rc == AIINFRA_OK) rc = read_examples(recommend, at, "negative", &o->negative, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(recommend, at, "strategy", false, &strategy, err);
  if (rc != AIINFRA_OK) return rc;
  o->best_score = strcmp(strategy, "best_score") == 0;
  if (!o->best_score && strcmp(strategy, "average") != 0) {
    return aii_fail(err, AIINFRA_EINVAL, "%s.strategy is neither average nor best_score", at);
  }
  if (json_array_size(o->positive) + (o->best_score ? json_array_size(o->negative) : 0) > 0) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "%s: no example is given that a row could be like", at);
}

aiinfra_status aii_query_opts_take(const json_t *obj, const char *path, aii_query_opts *o, aiinfra_error *err)
{
  const json_t *threshold = json_object_get(obj, "score_threshold");
  o->has_threshold = threshold != NULL && !json_is_null(threshold);
  aiinfra_status rc = aii_json_within(obj, path, "offset", 0, MAX_OFFSET, &o->offset, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_num(obj, path, "score_threshold", false, &o->score_threshold, err);
  if (rc == AIINFRA_OK) rc = read_mmr(obj, path, o, err);
  if (rc == AIINFRA_OK) rc = read_group(obj, path, o, err);
  if (rc == AIINFRA_OK && o->group_by != NULL && (o->mmr || o->offset > 0)) {
    rc = aii_fail(err, AIINFRA_EINVAL, "%s: group goes with neither mmr nor offset", path);
  }
  return rc;
}

static aiinfra_status read_all(aii_query_opts *o, aiinfra_error *err)
{
  static const char *const names[] = {"offset", "score_threshold", "mmr",      "group", "recommend", "using",
                                      "sparse", "multi",           "prefetch", "query", NULL};
  const json_t *obj = o->source;
  if (!json_is_object(obj)) {
    return aii_fail(err, AIINFRA_EINVAL, "options: expected an object, found %s", aii_json_type(obj));
  }
  aiinfra_status rc = aii_check_names(obj, "options", names, err);
  if (rc == AIINFRA_OK) rc = aii_query_opts_take(obj, "options", o, err);
  if (rc == AIINFRA_OK) rc = aii_query_opts_recommend(obj, "options", o, err);
  if (rc == AIINFRA_OK) rc = aii_using_read(obj, o, err);
  o->tree = aii_json_has(obj, "prefetch") || aii_json_has(obj, "query");
  return rc;
}

bool aii_json_has(const json_t *obj, const char *name)
{
  const json_t *value = json_object_get(obj, name);
  return value != NULL && !json_is_null(value);
}

aiinfra_status aii_request_parse(const char *json, const char *what, json_t **out, aiinfra_error *err)
{
  aiinfra_status rc = aii_json_parse(json, strlen(json), what, 0, out, err);
  if (rc == AIINFRA_EFORMAT || rc == AIINFRA_ELIMIT) {
    rc = AIINFRA_EINVAL; /* the caller's argument, not a file */
    if (err != NULL) err->status = (int32_t)rc;
  }
  return rc;
}

aiinfra_status aii_query_opts_read(const char *json, aii_query_opts *o, aiinfra_error *err)
{
  memset(o, 0, sizeof *o);
  if (json == NULL) return AIINFRA_OK;
  aiinfra_status rc = aii_request_parse(json, "options", &o->source, err);
  return rc == AIINFRA_OK ? read_all(o, err) : rc;
}
