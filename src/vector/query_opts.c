/* query_opts.c - reads the options of a query. What is not understood is refused, with its name. */
#include "lib/json/json.h"
#include "src/vector/search.h"

enum { MAX_OFFSET = 1 << 20, MAX_CANDIDATES = 1 << 16, MAX_GROUP = 1 << 10, MAX_EXAMPLES = 256 };

static aiinfra_status check_names(const json_t *obj, const char *path, const char *const *names, aiinfra_error *err)
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

static aiinfra_status check_range(int64_t value, int64_t least, int64_t most, const char *name, aiinfra_error *err)
{
  if (value >= least && value <= most) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "options: %s is not %lld to %lld", name, (long long)least, (long long)most);
}

static aiinfra_status read_mmr(const json_t *obj, aii_query_opts *o, aiinfra_error *err)
{
  static const char *const names[] = {"lambda", "candidates", NULL};
  json_t *mmr = NULL;
  o->lambda = 0.5;
  aiinfra_status rc = aii_json_get_object(obj, "options", "mmr", false, &mmr, err);
  if (rc != AIINFRA_OK || mmr == NULL) return rc;
  o->mmr = true;
  rc = check_names(mmr, "options.mmr", names, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_num(mmr, "options.mmr", "lambda", false, &o->lambda, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(mmr, "options.mmr", "candidates", false, &o->candidates, err);
  if (rc == AIINFRA_OK) rc = check_range(o->candidates, 0, MAX_CANDIDATES, "mmr.candidates", err);
  if (rc == AIINFRA_OK && !(o->lambda >= 0 && o->lambda <= 1)) {
    rc = aii_fail(err, AIINFRA_EINVAL, "options: mmr.lambda is not 0 to 1");
  }
  return rc;
}

static aiinfra_status read_group(const json_t *obj, aii_query_opts *o, aiinfra_error *err)
{
  static const char *const names[] = {"by", "size", NULL};
  json_t *group = NULL;
  o->group_size = 1;
  aiinfra_status rc = aii_json_get_object(obj, "options", "group", false, &group, err);
  if (rc != AIINFRA_OK || group == NULL) return rc;
  rc = check_names(group, "options.group", names, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(group, "options.group", "by", true, &o->group_by, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(group, "options.group", "size", false, &o->group_size, err);
  return rc == AIINFRA_OK ? check_range(o->group_size, 1, MAX_GROUP, "group.size", err) : rc;
}

static aiinfra_status read_examples(const json_t *obj, const char *name, const json_t **out, aiinfra_error *err)
{
  json_t *ids = NULL;
  aiinfra_status rc = aii_json_get_array(obj, "options.recommend", name, false, &ids, err);
  bool ok = json_array_size(ids) <= MAX_EXAMPLES;
  for (size_t i = 0; ok && i < json_array_size(ids); i++) ok = json_is_integer(json_array_get(ids, i));
  *out = ids;
  if (rc != AIINFRA_OK || ok) return rc;
  return aii_fail(err, AIINFRA_EINVAL, "options.recommend.%s is not an array of up to %d ids", name, MAX_EXAMPLES);
}

static aiinfra_status read_recommend(const json_t *obj, aii_query_opts *o, aiinfra_error *err)
{
  static const char *const names[] = {"positive", "negative", "strategy", NULL};
  json_t *recommend = NULL;
  const char *strategy = "average";
  aiinfra_status rc = aii_json_get_object(obj, "options", "recommend", false, &recommend, err);
  if (rc != AIINFRA_OK || recommend == NULL) return rc;
  rc = check_names(recommend, "options.recommend", names, err);
  if (rc == AIINFRA_OK) rc = read_examples(recommend, "positive", &o->positive, err);
  if (rc == AIINFRA_OK) rc = read_examples(recommend, "negative", &o->negative, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(recommend, "options.recommend", "strategy", false, &strategy, err);
  if (rc != AIINFRA_OK) return rc;
  o->best_score = strcmp(strategy, "best_score") == 0;
  if (!o->best_score && strcmp(strategy, "average") != 0) {
    return aii_fail(err, AIINFRA_EINVAL, "options.recommend.strategy is neither average nor best_score");
  }
  if (json_array_size(o->positive) + (o->best_score ? json_array_size(o->negative) : 0) > 0) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "options.recommend: no example is given that a row could be like");
}

static aiinfra_status read_all(aii_query_opts *o, aiinfra_error *err)
{
  static const char *const names[] = {"offset", "score_threshold", "mmr",   "group", "recommend",
                                      "using",  "sparse",          "multi", NULL};
  const json_t *obj = o->source;
  if (!json_is_object(obj)) {
    return aii_fail(err, AIINFRA_EINVAL, "options: expected an object, found %s", aii_json_type(obj));
  }
  const json_t *threshold = json_object_get(obj, "score_threshold");
  o->has_threshold = threshold != NULL && !json_is_null(threshold);
  aiinfra_status rc = check_names(obj, "options", names, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(obj, "options", "offset", false, &o->offset, err);
  if (rc == AIINFRA_OK) rc = check_range(o->offset, 0, MAX_OFFSET, "offset", err);
  if (rc == AIINFRA_OK) rc = aii_json_get_num(obj, "options", "score_threshold", false, &o->score_threshold, err);
  if (rc == AIINFRA_OK) rc = read_mmr(obj, o, err);
  if (rc == AIINFRA_OK) rc = read_group(obj, o, err);
  if (rc == AIINFRA_OK) rc = read_recommend(obj, o, err);
  if (rc == AIINFRA_OK) rc = aii_using_read(obj, o, err);
  if (rc == AIINFRA_OK && o->group_by != NULL && (o->mmr || o->offset > 0)) {
    rc = aii_fail(err, AIINFRA_EINVAL, "options: group goes with neither mmr nor offset");
  }
  return rc;
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
