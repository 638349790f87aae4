/* tree_oracle.h - a second, naive interpreter of queries of several stages, straight on their JSON.
 *
 * It knows the rules of docs/vector.md and goes over all rows for every stage: nothing is compiled, indexed or kept.
 * What it takes from the library is what other tests check: the score of two vectors, and the words of a text.
 * Filters are filter_oracle.h's. Rows may have vectors under the names image, words (sparse) and tokens (several).
 */
#ifndef AIINFRA_TESTS_TREE_ORACLE_H
#define AIINFRA_TESTS_TREE_ORACLE_H

#include "filter_oracle.h"
#include "src/vector/vector.h"

enum { TREE_DIMS = 6, TREE_ROWS = 150, TREE_HITS = 1200, TREE_LISTS = 8, TREE_FILTERS = 12 };
enum { TREE_VECTORS = 4, TREE_TERMS = 12 };
enum { TREE_FIRST, TREE_IMAGE, TREE_WORDS, TREE_TOKENS, TREE_SPACES };

/* What a row has under a name, or what a stage searches by. */
typedef struct tree_vector {
  float v[TREE_VECTORS][TREE_DIMS]; /* n of them, as the index has them; zero where there is none */
  size_t n;
  double weight[TREE_TERMS]; /* of words; NAN: not one of its indices */
} tree_vector;

typedef struct tree_row {
  bool there;
  tree_vector of[TREE_SPACES]; /* n 0: none */
  json_t *payload;
} tree_row;

typedef struct tree_hit {
  int id;
  float score;
  const char *group;
} tree_hit;

typedef struct tree_list {
  tree_hit hits[TREE_HITS];
  size_t n;
} tree_list;

typedef struct tree_oracle {
  aiinfra_vecstore *store;
  tree_row rows[TREE_ROWS];
  const json_t *filters[TREE_FILTERS]; /* of the stages around */
  size_t n_filters;
  bool fails; /* a formula has no result */
} tree_oracle;

static void tree_answer(tree_oracle *o, const json_t *stage, tree_list *out);

/* ---- vectors --------------------------------------------------------------------------------------------------- */

static const char *const TREE_NAMES[TREE_SPACES] = {NULL, "image", "words", "tokens"};

static int tree_space(const json_t *stage)
{
  const char *name = json_string_value(json_object_get(stage, "using"));
  int space = TREE_SPACES - 1;
  while (name != NULL && space > TREE_FIRST && strcmp(TREE_NAMES[space], name) != 0) space--;
  return name != NULL ? space : TREE_FIRST;
}

static aii_index *tree_index(const tree_oracle *o, int space)
{
  if (space == TREE_FIRST) return &o->store->index;
  for (size_t i = 0; i < o->store->n_named; i++) {
    if (strcmp(o->store->named[i]->label, TREE_NAMES[space]) == 0) return &o->store->named[i]->index;
  }
  abort();
}

static double tree_score(const tree_oracle *o, int space, const float *a, const float *b)
{
  const aii_index *index = tree_index(o, space);
  _Alignas(64) float query[TREE_DIMS];
  memcpy(query, a, sizeof query);
  return (double)aii_index_score(index, aii_index_dist(index, query, b));
}

/* false: they have nothing in common. */
static bool tree_compare(const tree_oracle *o, int space, const tree_vector *query, const tree_vector *row,
                         double *score)
{
  bool met = false;
  *score = 0;
  for (size_t t = 0; space == TREE_WORDS && t < TREE_TERMS; t++) {
    if (isnan(query->weight[t]) || isnan(row->weight[t])) continue;
    *score += query->weight[t] * row->weight[t];
    met = true;
  }
  if (space == TREE_WORDS) return row->n > 0 && met;
  for (size_t i = 0; i < query->n; i++) {
    double best = -INFINITY;
    for (size_t j = 0; j < row->n; j++) best = fmax(best, tree_score(o, space, query->v[i], row->v[j]));
    *score += best;
  }
  return row->n > 0;
}

static void tree_take(const tree_oracle *o, int space, const json_t *numbers, float *to)
{
  _Alignas(64) float raw[TREE_DIMS] = {0}, own[TREE_DIMS] = {0};
  for (size_t d = 0; d < json_array_size(numbers); d++) {
    raw[d] = (float)json_number_value(json_array_get(numbers, d));
  }
  aii_index_take(tree_index(o, space), own, raw);
  memcpy(to, own, sizeof own);
}

/* A vector in JSON, of any form. */
static void tree_read(const tree_oracle *o, int space, const json_t *json, tree_vector *to)
{
  const json_t *indices = json_object_get(json, "indices"), *values = json_object_get(json, "values");
  memset(to, 0, sizeof *to);
  for (size_t t = 0; t < TREE_TERMS; t++) to->weight[t] = NAN;
  for (size_t i = 0; i < json_array_size(indices); i++) {
    to->weight[json_integer_value(json_array_get(indices, i))] = json_number_value(json_array_get(values, i));
  }
  bool several = json_is_array(json_array_get(json, 0));
  to->n = several ? json_array_size(json) : 1;
  for (size_t i = 0; indices == NULL && i < to->n; i++) {
    tree_take(o, space, several ? json_array_get(json, i) : json, to->v[i]);
  }
}

/* An example's vector; a row that it names is taken out. */
static void tree_example(const tree_oracle *o, int space, const json_t *example, tree_vector *to, bool *in)
{
  const json_t *id = json_is_integer(example) ? example : json_object_get(example, "row");
  if (id == NULL) {
    tree_read(o, space, example, to);
    return;
  }
  *to = o->rows[json_integer_value(id)].of[space];
  in[json_integer_value(id)] = false;
}

/* ---- lists ----------------------------------------------------------------------------------------------------- */

static int tree_by_score(const void *a, const void *b)
{
  const tree_hit *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return x->id - y->id;
}

static void tree_sort(tree_list *list, size_t most)
{
  qsort(list->hits, list->n, sizeof *list->hits, tree_by_score);
  list->n = AII_MIN(list->n, most);
}

static size_t tree_rank(const tree_list *list, int id)
{
  for (size_t i = 0; i < list->n; i++) {
    if (list->hits[i].id == id) return i + 1;
  }
  return 0;
}

static void tree_add(tree_list *list, int id, double score)
{
  list->hits[list->n++] = (tree_hit){id, (float)score, NULL};
}

static long long tree_int(const json_t *stage, const char *name, long long without)
{
  const json_t *value = json_object_get(stage, name);
  return value != NULL ? json_integer_value(value) : without;
}

/* ---- searching ------------------------------------------------------------------------------------------------- */

static void tree_words(const tree_oracle *o, const char *text, const bool *in, size_t most, tree_list *out)
{
  static aiinfra_hit hits[TREE_ROWS];
  aiinfra_query q = AIINFRA_QUERY_INIT;
  size_t n = 0;
  q.text = text;
  q.k = TREE_ROWS;
  if (aiinfra_vecstore_search(o->store, &q, hits, TREE_ROWS, &n, NULL) != AIINFRA_OK) abort();
  for (size_t i = 0; i < n && out->n < most; i++) {
    if (in[hits[i].id]) tree_add(out, (int)hits[i].id, (double)hits[i].text_score);
  }
}

static void tree_nearest(const tree_oracle *o, int space, const tree_vector *query, const bool *in, size_t most,
                         tree_list *out)
{
  double score;
  for (int id = 0; id < TREE_ROWS; id++) {
    if (in[id] && tree_compare(o, space, query, &o->rows[id].of[space], &score)) tree_add(out, id, score);
  }
  tree_sort(out, most);
}

static void tree_hybrid(const tree_oracle *o, int space, const tree_vector *query, const char *text, const bool *in,
                        size_t most, tree_list *out)
{
  static tree_list by_vector, by_words;
  by_vector.n = by_words.n = 0;
  tree_nearest(o, space, query, in, most, &by_vector);
  tree_words(o, text, in, most, &by_words);
  for (int id = 0; id < TREE_ROWS; id++) {
    size_t a = tree_rank(&by_vector, id), b = tree_rank(&by_words, id);
    float score = 0;
    if (a > 0) score += 1.0f / (float)(60 + a);
    if (b > 0) score += 1.0f / (float)(60 + b);
    if (a + b > 0) tree_add(out, id, (double)score);
  }
  tree_sort(out, TREE_HITS);
}

static double tree_squashed(double x)
{
  return x / (1 + fabs(x));
}

/* *query: the mean for strategy average. */
static bool tree_recommend(const tree_oracle *o, int space, const json_t *r, bool *in, size_t most, tree_vector *query,
                           tree_list *out)
{
  static tree_vector examples[2][16];
  const json_t *sides[2] = {json_object_get(r, "positive"), json_object_get(r, "negative")};
  const char *strategy = json_string_value(json_object_get(r, "strategy"));
  double sums[2][TREE_DIMS] = {{0}};
  for (int side = 0; side < 2; side++) {
    for (size_t i = 0; i < json_array_size(sides[side]); i++) {
      tree_example(o, space, json_array_get(sides[side], i), &examples[side][i], in);
      for (size_t d = 0; d < TREE_DIMS; d++) sums[side][d] += (double)examples[side][i].v[0][d];
    }
  }
  if (strategy == NULL || strcmp(strategy, "average") == 0) {
    _Alignas(64) float mean[TREE_DIMS], own[TREE_DIMS] = {0};
    for (size_t d = 0; d < TREE_DIMS; d++) {
      double m = sums[0][d] / (double)json_array_size(sides[0]);
      if (json_array_size(sides[1]) > 0) m = 2 * m - sums[1][d] / (double)json_array_size(sides[1]);
      mean[d] = (float)m;
    }
    aii_index_take(tree_index(o, space), own, mean);
    memset(query, 0, sizeof *query);
    memcpy(query->v[0], own, sizeof own);
    query->n = 1;
    return true;
  }
  for (int id = 0; id < TREE_ROWS; id++) {
    double best[2] = {-INFINITY, -INFINITY};
    if (!in[id] || o->rows[id].of[space].n == 0) continue;
    for (int side = 0; side < 2; side++) {
      for (size_t i = 0; i < json_array_size(sides[side]); i++) {
        best[side] = fmax(best[side], tree_score(o, space, examples[side][i].v[0], o->rows[id].of[space].v[0]));
      }
    }
    bool liked = best[0] > best[1];
    double share = 0.5 * (tree_squashed(liked ? best[0] : best[1]) + 1);
    tree_add(out, id, liked ? share : -share);
  }
  tree_sort(out, most);
  return false;
}

static void tree_discover(const tree_oracle *o, int space, const json_t *target, const json_t *pairs, bool *in,
                          size_t most, tree_list *out)
{
  static tree_vector to, positive[16], negative[16];
  if (target != NULL) tree_example(o, space, target, &to, in);
  for (size_t i = 0; i < json_array_size(pairs); i++) {
    tree_example(o, space, json_object_get(json_array_get(pairs, i), "positive"), &positive[i], in);
    tree_example(o, space, json_object_get(json_array_get(pairs, i), "negative"), &negative[i], in);
  }
  for (int id = 0; id < TREE_ROWS; id++) {
    const float *v = o->rows[id].of[space].v[0];
    if (!in[id] || o->rows[id].of[space].n == 0) continue;
    double score = target != NULL ? 0.5 * (tree_squashed(tree_score(o, space, to.v[0], v)) + 1) : 0;
    for (size_t i = 0; i < json_array_size(pairs); i++) {
      double p = tree_score(o, space, positive[i].v[0], v), n = tree_score(o, space, negative[i].v[0], v);
      if (target == NULL) score += tree_squashed(p < n ? p - n : 0);
      else score += p > n ? 1 : p < n ? -1 : 0;
    }
    tree_add(out, id, score);
  }
  tree_sort(out, most);
}

/* ---- fusing ---------------------------------------------------------------------------------------------------- */

/* What a hit of a list counts. */
static double tree_share(const tree_list *list, size_t rank, const char *norm, double k)
{
  double n = (double)list->n, least = INFINITY, most = -INFINITY, sum = 0, squares = 0;
  double score = (double)list->hits[rank - 1].score;
  if (strcmp(norm, "rrf") == 0) return 1 / (k + (double)rank);
  if (strcmp(norm, "none") == 0) return score;
  for (size_t i = 0; i < list->n; i++) {
    sum += (double)list->hits[i].score;
    least = fmin(least, (double)list->hits[i].score);
    most = fmax(most, (double)list->hits[i].score);
  }
  if (strcmp(norm, "minmax") == 0) return most > least ? (score - least) / (most - least) : 1;
  for (size_t i = 0; i < list->n; i++) squares += pow((double)list->hits[i].score - sum / n, 2);
  if (!(most > least)) return 0.5;
  double deviation = sqrt(squares / (n - 1));
  return (score - (sum / n - 3 * deviation)) / (6 * deviation);
}

static void tree_fuse(const json_t *query, const tree_list *lists, size_t n_lists, size_t most, tree_list *out)
{
  const json_t *rrf = json_object_get(query, "rrf"), *weighted = json_object_get(query, "weighted");
  const json_t *weights = json_object_get(rrf != NULL ? rrf : weighted, "weights"), *k = json_object_get(rrf, "k");
  const char *norm = json_string_value(json_object_get(query, "fusion"));
  if (rrf != NULL) norm = "rrf";
  if (weighted != NULL) norm = json_string_value(json_object_get(weighted, "norm"));
  if (norm == NULL) norm = "minmax";
  for (int id = 0; id < TREE_ROWS; id++) {
    double score = 0;
    bool found = false;
    for (size_t i = 0; i < n_lists; i++) {
      size_t rank = tree_rank(&lists[i], id);
      if (rank == 0) continue;
      double weight = weights != NULL ? json_number_value(json_array_get(weights, i)) : 1;
      score += weight * tree_share(&lists[i], rank, norm, k != NULL ? json_number_value(k) : 60);
      found = true;
    }
    if (found) tree_add(out, id, score);
  }
  tree_sort(out, most);
}

/* ---- formulas -------------------------------------------------------------------------------------------------- */

typedef struct tree_scoring {
  tree_oracle *o;
  const tree_list *lists;
  size_t n_lists;
  const json_t *defaults;
  int id;
} tree_scoring;

static double tree_eval(tree_scoring *t, const json_t *e);

static double tree_missing(tree_scoring *t, const char *name)
{
  const json_t *value = json_object_get(t->defaults, name);
  if (value == NULL) t->o->fails = true;
  return json_number_value(value);
}

static double tree_metres(const json_t *a, const json_t *b)
{
  const double rad = 0.017453292519943295;
  double lon1 = json_number_value(json_object_get(a, "lon")), lat1 = json_number_value(json_object_get(a, "lat"));
  double lon2 = json_number_value(json_object_get(b, "lon")), lat2 = json_number_value(json_object_get(b, "lat"));
  double x = sin((lat2 - lat1) * rad / 2), y = sin((lon2 - lon1) * rad / 2);
  double h = x * x + cos(lat1 * rad) * cos(lat2 * rad) * y * y;
  return 2 * 6371008.8 * asin(sqrt(fmin(h, 1)));
}

static double tree_field(tree_scoring *t, const char *kind, const json_t *of)
{
  const json_t *payload = t->o->rows[t->id].payload;
  const char *name = json_string_value(json_is_string(of) ? of : json_object_get(of, "to"));
  const json_t *value = json_object_get(payload, name);
  long double us;
  if (json_is_array(value)) value = json_array_get(value, 0);
  if (strcmp(kind, "datetime_key") == 0) {
    return value != NULL && oracle_date(value, &us) ? (double)((double)us / 1e6) : tree_missing(t, name);
  }
  if (strcmp(kind, "geo_distance") == 0) {
    return json_is_object(value) ? tree_metres(json_object_get(of, "origin"), value) : tree_missing(t, name);
  }
  return json_is_number(value) ? json_number_value(value) : tree_missing(t, name);
}

static double tree_decay(tree_scoring *t, const char *kind, const json_t *of)
{
  const json_t *target = json_object_get(of, "target"), *scale = json_object_get(of, "scale");
  const json_t *midpoint = json_object_get(of, "midpoint");
  double x = tree_eval(t, json_object_get(of, "x")), m = midpoint != NULL ? json_number_value(midpoint) : 0.5;
  double far = fabs(x - (target != NULL ? tree_eval(t, target) : 0)) / (scale != NULL ? json_number_value(scale) : 1);
  if (strcmp(kind, "lin_decay") == 0) return fmax(0, 1 - (1 - m) * far);
  return exp(log(m) * (strcmp(kind, "gauss_decay") == 0 ? far * far : far));
}

static double tree_operator(tree_scoring *t, const char *kind, const json_t *of)
{
  double value = strcmp(kind, "mult") == 0 ? 1 : 0;
  long double us;
  for (size_t i = 0; i < json_array_size(of); i++) {
    double one = tree_eval(t, json_array_get(of, i));
    value = strcmp(kind, "mult") == 0 ? value * one : value + one;
  }
  if (json_is_array(of)) return value;
  if (strcmp(kind, "datetime") == 0) return oracle_date(of, &us) ? (double)((double)us / 1e6) : NAN;
  if (strcmp(kind, "datetime_key") == 0 || strcmp(kind, "geo_distance") == 0) return tree_field(t, kind, of);
  if (strstr(kind, "_decay") != NULL) return tree_decay(t, kind, of);
  if (strcmp(kind, "pow") == 0) {
    value = tree_eval(t, json_object_get(of, "base"));
    return pow(value, tree_eval(t, json_object_get(of, "exponent")));
  }
  if (strcmp(kind, "div") == 0) {
    const json_t *by_zero = json_object_get(of, "by_zero_default");
    double left = tree_eval(t, json_object_get(of, "left")), right = tree_eval(t, json_object_get(of, "right"));
    return right == 0 && by_zero != NULL ? json_number_value(by_zero) : left / right;
  }
  value = tree_eval(t, of);
  if (strcmp(kind, "neg") == 0) return -value;
  if (strcmp(kind, "abs") == 0) return fabs(value);
  if (strcmp(kind, "sqrt") == 0) return sqrt(value);
  if (strcmp(kind, "exp") == 0) return exp(value);
  return strcmp(kind, "ln") == 0 ? log(value) : log10(value);
}

static double tree_eval(tree_scoring *t, const json_t *e)
{
  double value;
  if (json_is_number(e)) return json_number_value(e);
  if (json_is_string(e) && json_string_value(e)[0] == '$') {
    const char *name = json_string_value(e);
    size_t list = name[6] == '[' ? (size_t)(name[7] - '0') : 0, rank = tree_rank(&t->lists[list], t->id);
    const json_t *without = json_object_get(t->defaults, name);
    return rank > 0 ? (double)t->lists[list].hits[rank - 1].score : json_number_value(without);
  }
  if (json_is_string(e)) return tree_field(t, "", e);
  if (json_object_get(e, "key") != NULL || json_object_get(e, "must_not") != NULL) {
    return oracle_filter(e, t->o->rows[t->id].payload, t->id) ? 1 : 0;
  }
  void *only = json_object_iter((json_t *)(uintptr_t)e);
  value = tree_operator(t, json_object_iter_key(only), json_object_iter_value(only));
  if (!isfinite(value)) t->o->fails = true;
  return value;
}

static void tree_formula(tree_oracle *o, const json_t *query, const tree_list *lists, size_t n_lists, const bool *in,
                         size_t most, tree_list *out)
{
  tree_scoring t = {.o = o, .lists = lists, .n_lists = n_lists, .defaults = json_object_get(query, "defaults")};
  for (t.id = 0; t.id < TREE_ROWS; t.id++) {
    if (!in[t.id]) continue;
    double score = tree_eval(&t, json_object_get(query, "formula"));
    if (!(fabs(score) < 3e38)) o->fails = true;
    tree_add(out, t.id, score);
  }
  tree_sort(out, most);
}

/* ---- order ----------------------------------------------------------------------------------------------------- */

/* query: NULL: relevance is the score. */
static void tree_mmr(const tree_oracle *o, int space, const json_t *mmr, const tree_vector *query, size_t depth,
                     size_t wanted, tree_list *list)
{
  static tree_list picked;
  const json_t *l = json_object_get(mmr, "lambda");
  double lambda = l != NULL ? json_number_value(l) : 0.5;
  picked.n = 0;
  list->n = AII_MIN(list->n, depth);
  while (picked.n < AII_MIN(wanted, list->n)) {
    double best = -INFINITY;
    size_t at = TREE_HITS;
    for (size_t i = 0; i < list->n; i++) {
      const float *v = o->rows[list->hits[i].id].of[space].v[0];
      double alike = -INFINITY,
             value = lambda * (query != NULL ? tree_score(o, space, query->v[0], v) : (double)list->hits[i].score);
      if (tree_rank(&picked, list->hits[i].id) > 0) continue;
      for (size_t j = 0; j < picked.n; j++) {
        alike = fmax(alike, tree_score(o, space, o->rows[picked.hits[j].id].of[space].v[0], v));
      }
      if (picked.n > 0) value -= (1 - lambda) * alike;
      if (at == TREE_HITS || value > best) at = i;
      best = fmax(best, value);
    }
    picked.hits[picked.n++] = list->hits[at];
  }
  memcpy(list, &picked, sizeof picked);
}

static void tree_groups(const tree_oracle *o, const json_t *group, size_t k, tree_list *list)
{
  static tree_list out;
  const char *names[TREE_ROWS];
  size_t n = 0, size = (size_t)tree_int(group, "size", 1);
  out.n = 0;
  for (size_t i = 0; i < list->n; i++) {
    const char *name = json_string_value(json_object_get(o->rows[list->hits[i].id].payload, "group"));
    bool known = name == NULL || n == k;
    for (size_t g = 0; !known && g < n; g++) known = strcmp(names[g], name) == 0;
    if (!known) names[n++] = name;
  }
  for (size_t g = 0; g < n; g++) {
    size_t taken = 0;
    for (size_t i = 0; i < list->n && taken < size; i++) {
      const char *name = json_string_value(json_object_get(o->rows[list->hits[i].id].payload, "group"));
      if (name == NULL || strcmp(name, names[g]) != 0) continue;
      out.hits[out.n] = list->hits[i];
      out.hits[out.n++].group = names[g];
      taken++;
    }
  }
  memcpy(list, &out, sizeof out);
}

static void tree_finish(const tree_oracle *o, const json_t *stage, const tree_vector *query, size_t depth,
                        tree_list *out)
{
  const json_t *threshold = json_object_get(stage, "score_threshold"), *mmr = json_object_get(stage, "mmr");
  size_t offset = (size_t)tree_int(stage, "offset", 0), wanted = offset + (size_t)tree_int(stage, "limit", 10);
  while (threshold != NULL && out->n > 0 && (double)out->hits[out->n - 1].score < json_number_value(threshold))
    out->n--;
  if (json_object_get(stage, "group") != NULL) {
    tree_groups(o, json_object_get(stage, "group"), (size_t)tree_int(stage, "limit", 10), out);
    return;
  }
  if (mmr != NULL) tree_mmr(o, tree_space(stage), mmr, query, depth, wanted, out);
  out->n = AII_MIN(out->n, wanted);
  size_t skip = AII_MIN(offset, out->n);
  out->n -= skip;
  memmove(out->hits, out->hits + skip, out->n * sizeof *out->hits);
}

/* ---- stages ---------------------------------------------------------------------------------------------------- */

static size_t tree_depth(const json_t *stage, bool hybrid, size_t n_passing)
{
  const json_t *mmr = json_object_get(stage, "mmr");
  size_t wanted = (size_t)tree_int(stage, "offset", 0) + (size_t)tree_int(stage, "limit", 10), depth = wanted;
  if (hybrid) depth = AII_MAX(4 * wanted, (size_t)60);
  if (mmr != NULL) depth = AII_MAX(depth, AII_MAX(4 * wanted, (size_t)64));
  if (tree_int(mmr, "candidates", 0) > 0) depth = AII_MAX(wanted, (size_t)tree_int(mmr, "candidates", 0));
  if (json_object_get(stage, "group") != NULL) depth = TREE_ROWS;
  return AII_MIN(depth, n_passing);
}

/* The rows that pass; of these, with prefetches, those that they found. */
static size_t tree_rows(const tree_oracle *o, const tree_list *lists, size_t n_lists, bool narrowed, bool *in)
{
  size_t n = 0;
  for (int id = 0; id < TREE_ROWS; id++) {
    in[id] = o->rows[id].there;
    for (size_t f = 0; in[id] && f < o->n_filters; f++) in[id] = oracle_filter(o->filters[f], o->rows[id].payload, id);
    bool found = !narrowed;
    for (size_t i = 0; i < n_lists; i++) found = found || tree_rank(&lists[i], id) > 0;
    in[id] = in[id] && found;
    n += in[id];
  }
  return n;
}

/* The vector and the words of a stage as its lists. */
static size_t tree_implicit(const tree_oracle *o, const json_t *stage, const json_t *vector, const char *text, bool all,
                            tree_list *lists)
{
  bool in[TREE_ROWS];
  tree_vector query;
  const json_t *mmr = json_object_get(stage, "mmr");
  size_t wanted = (size_t)tree_int(stage, "offset", 0) + (size_t)tree_int(stage, "limit", 10), n = 0;
  size_t depth = AII_MAX(4 * wanted, (size_t)60);
  if (mmr != NULL) depth = AII_MAX(depth, AII_MAX((size_t)tree_int(mmr, "candidates", 0), (size_t)64));
  if (all || json_object_get(stage, "group") != NULL) depth = TREE_ROWS;
  if (vector != NULL) {
    (void)tree_rows(o, NULL, 0, false, in);
    lists[n].n = 0;
    tree_example(o, tree_space(stage), vector, &query, in);
    tree_nearest(o, tree_space(stage), &query, in, depth, &lists[n++]);
  }
  if (text != NULL) {
    (void)tree_rows(o, NULL, 0, false, in);
    lists[n].n = 0;
    tree_words(o, text, in, depth, &lists[n++]);
  }
  return n;
}

static const json_t *tree_vector_of(const json_t *stage)
{
  const json_t *vector = json_object_get(stage, "vector"), *query = json_object_get(stage, "query");
  const json_t *nearest = json_object_get(query, "nearest");
  bool example = json_is_array(query) || json_is_integer(query) || json_object_get(query, "row") != NULL ||
                 json_object_get(query, "indices") != NULL;
  return vector != NULL ? vector : nearest != NULL ? nearest : example ? query : NULL;
}

static void tree_search(tree_oracle *o, const json_t *stage, tree_list *lists, size_t n_lists, tree_list *out)
{
  const json_t *query = json_object_get(stage, "query"), *vector = tree_vector_of(stage);
  const json_t *recommend = json_object_get(query, "recommend"), *discover = json_object_get(query, "discover");
  const char *text = json_string_value(json_object_get(stage, "text"));
  bool in[TREE_ROWS], formula = json_object_get(query, "formula") != NULL, by_vector = false;
  bool fusion = json_object_get(query, "fusion") != NULL || json_object_get(query, "rrf") != NULL ||
                json_object_get(query, "weighted") != NULL;
  int space = tree_space(stage);
  tree_vector v;
  bool narrowed = n_lists > 0 || fusion;
  if (n_lists == 0 && (formula || fusion)) n_lists = tree_implicit(o, stage, vector, text, formula, lists);
  (void)tree_rows(o, lists, n_lists, narrowed, in);
  if (vector != NULL && !formula && !fusion) {
    tree_example(o, space, vector, &v, in);
    by_vector = true;
  }
  out->n = 0;
  if (recommend != NULL) by_vector = tree_recommend(o, space, recommend, in, TREE_ROWS, &v, out);
  size_t n = 0;
  if (discover != NULL)
    tree_discover(o, space, json_object_get(discover, "target"), json_object_get(discover, "context"), in, TREE_ROWS,
                  out);
  if (json_object_get(query, "context") != NULL)
    tree_discover(o, space, NULL, json_object_get(query, "context"), in, TREE_ROWS, out);
  for (int id = 0; id < TREE_ROWS; id++) n += in[id];
  size_t depth = tree_depth(stage, by_vector && text != NULL, n);
  if (fusion) tree_fuse(query, lists, n_lists, depth, out);
  else if (formula) tree_formula(o, query, lists, n_lists, in, depth, out);
  else if (by_vector && text != NULL) tree_hybrid(o, space, &v, text, in, depth, out);
  else if (by_vector) tree_nearest(o, space, &v, in, depth, out);
  else if (text != NULL) tree_words(o, text, in, depth, out);
  if (!(by_vector && text != NULL)) tree_sort(out, depth);
  tree_finish(o, stage, by_vector ? &v : NULL, depth, out);
}

static void tree_answer(tree_oracle *o, const json_t *stage, tree_list *out)
{
  const json_t *filter = json_object_get(stage, "filter"), *prefetch = json_object_get(stage, "prefetch");
  size_t n_filters = o->n_filters, n = json_array_size(prefetch);
  tree_list *lists = calloc(TREE_LISTS, sizeof *lists);
  if (lists == NULL || n > TREE_LISTS) abort();
  if (filter != NULL) o->filters[o->n_filters++] = filter;
  for (size_t i = 0; i < n; i++) tree_answer(o, json_array_get(prefetch, i), &lists[i]);
  tree_search(o, stage, lists, n, out);
  o->n_filters = n_filters;
  free(lists);
}

#endif
