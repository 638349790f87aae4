/* filter_oracle.h - a second, naive interpreter of filters, straight on JSON, sharing no code with the library.
 *
 * It knows the rules of docs/vector.md and takes the filter as it is written: nothing is compiled, sorted or
 * packed. It expects filters that are understood, coordinates in halves of a degree, text in ASCII with the letter
 * a-umlaut.
 */
#ifndef AIINFRA_TESTS_FILTER_ORACLE_H
#define AIINFRA_TESTS_FILTER_ORACLE_H

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ORACLE_VALUES = 512 };

typedef struct oracle_values {
  const json_t *v[ORACLE_VALUES];
  size_t n;
} oracle_values;

static bool oracle_filter(const json_t *filter, const json_t *payload, int64_t id);

/* ---- paths ----------------------------------------------------------------------------------------------------- */

static void oracle_follow(const json_t *value, const char *path, oracle_values *out)
{
  if (value == NULL) return;
  if (*path == '\0') {
    if (out->n < ORACLE_VALUES) out->v[out->n++] = value;
  } else if (path[0] == '[' && path[1] == ']') {
    for (size_t i = 0; i < json_array_size(value); i++) oracle_follow(json_array_get(value, i), path + 2, out);
  } else if (path[0] == '[') {
    char *end;
    size_t at = strtoul(path + 1, &end, 10);
    oracle_follow(json_array_get(value, at), end + 1, out);
  } else {
    char name[64];
    size_t n = 0;
    if (*path == '.') path++;
    bool quoted = *path == '"';
    if (quoted) path++;
    while (*path != '\0' && (quoted ? *path != '"' : *path != '.' && *path != '[')) name[n++] = *path++;
    name[n] = '\0';
    oracle_follow(json_object_get(value, name), path + quoted, out);
  }
}

/* *whole: the key is the name of a member. */
static oracle_values oracle_find(const json_t *payload, const char *key, bool *whole)
{
  oracle_values out = {.n = 0};
  const json_t *exact = json_object_get(payload, key);
  *whole = exact != NULL && strpbrk(key, ".[\"") != NULL;
  if (exact != NULL) out.v[out.n++] = exact;
  else oracle_follow(payload, key, &out);
  return out;
}

/* ---- scalars --------------------------------------------------------------------------------------------------- */

static bool oracle_equal(const json_t *a, const json_t *b)
{
  if (json_is_integer(a) && json_is_integer(b)) return json_integer_value(a) == json_integer_value(b);
  if (json_is_number(a) && json_is_number(b)) {
    double real = json_is_real(a) ? json_real_value(a) : json_real_value(b);
    if (json_is_real(a) && json_is_real(b)) return json_real_value(a) == json_real_value(b);
    int64_t integer = json_integer_value(json_is_integer(a) ? a : b);
    return floor(real) == real && fabs(real) < 9e18 && (int64_t)real == integer;
  }
  return json_equal(a, b);
}

static bool oracle_among(const json_t *value, const json_t *list)
{
  for (size_t i = 0; i < json_array_size(list); i++) {
    if (oracle_equal(value, json_array_get(list, i))) return true;
  }
  return false;
}

/* Microseconds, by the C library's calendar. */
static bool oracle_date(const json_t *value, long double *us)
{
  const char *s = json_string_value(value);
  struct tm tm = {0}, again;
  char day[11] = "";
  if (s == NULL || strlen(s) < 10) return false;
  memcpy(day, s, 10);
  for (int i = 0; i < 10; i++) {
    if (i == 4 || i == 7 ? day[i] != '-' : !isdigit((unsigned char)day[i])) return false;
  }
  tm.tm_year = atoi(day) - 1900;
  tm.tm_mon = atoi(day + 5) - 1;
  tm.tm_mday = atoi(day + 8);
  int month = tm.tm_mon, mday = tm.tm_mday, hour = 0, minute = 0, used = 0, zone_h = 0, zone_m = 0;
  double second = 0;
  char zone = 'Z', sign = '+';
  time_t t = timegm(&tm);
  gmtime_r(&t, &again);
  if (again.tm_mon != month || again.tm_mday != mday) return false;
  s += 10;
  if (*s != '\0') {
    if (sscanf(s, "%*1[T ]%2d:%2d:%lf%n", &hour, &minute, &second, &used) != 3) return false;
    s += used;
    if (sscanf(s, "%c%2d:%2d", &sign, &zone_h, &zone_m) == 3) zone = sign;
    else if (strcmp(s, "Z") != 0 && *s != '\0') return false;
  }
  *us = (long double)t + hour * 3600 + minute * 60 + (long double)second;
  if (zone != 'Z') *us -= (sign == '-' ? -1 : 1) * (zone_h * 3600 + zone_m * 60);
  *us = roundl(*us * 1000000);
  return true;
}

static bool oracle_bounds(const json_t *bounds, long double value, bool dates)
{
  const char *name;
  json_t *bound;
  json_object_foreach((json_t *)(uintptr_t)bounds, name, bound)
  {
    long double limit = 0;
    if (json_is_null(bound)) continue;
    const char *side = name + (name[0] == '$');
    if (dates) (void)oracle_date(bound, &limit);
    else limit = json_is_integer(bound) ? (long double)json_integer_value(bound) : (long double)json_real_value(bound);
    if (strcmp(side, "lt") == 0 && !(value < limit)) return false;
    if (strcmp(side, "lte") == 0 && !(value <= limit)) return false;
    if (strcmp(side, "gt") == 0 && !(value > limit)) return false;
    if (strcmp(side, "gte") == 0 && !(value >= limit)) return false;
  }
  return true;
}

static bool oracle_range(const json_t *bounds, const json_t *value)
{
  const char *name;
  json_t *bound;
  long double number = 0;
  bool dates = false;
  json_object_foreach((json_t *)(uintptr_t)bounds, name, bound) dates |= json_is_string(bound);
  if (dates) return oracle_date(value, &number) && oracle_bounds(bounds, number, true);
  if (!json_is_number(value)) return false;
  number = json_is_integer(value) ? (long double)json_integer_value(value) : (long double)json_real_value(value);
  return oracle_bounds(bounds, number, false);
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

/* " word word ": lower case, each word between single blanks. */
static void oracle_words(const char *s, char out[512])
{
  size_t n = 0;
  out[n++] = ' ';
  for (; *s != '\0'; s++) {
    unsigned char c = (unsigned char)*s;
    bool letter = isalnum(c) || c >= 0x80;
    if (c == 0x84) c = 0xA4; /* the second byte of A-umlaut */
    if (letter) out[n++] = (char)(c < 0x80 ? tolower(c) : c);
    else if (out[n - 1] != ' ') out[n++] = ' ';
  }
  if (out[n - 1] != ' ') out[n++] = ' ';
  out[n] = '\0';
}

static bool oracle_text(const char *op, const json_t *value, const json_t *operand)
{
  char have[512], want[512], word[512];
  const char *query = json_string_value(operand);
  if (!json_is_string(value)) return false;
  if (strcmp(op, "prefix") == 0) return strncmp(json_string_value(value), query, strlen(query)) == 0;
  oracle_words(json_string_value(value), have);
  oracle_words(query, want);
  if (strcmp(want, " ") == 0) return false;
  if (strcmp(op, "phrase") == 0) return strstr(have, want) != NULL;
  bool all = true, any = false;
  for (char *at = want; at[1] != '\0'; at = strchr(at + 1, ' ')) {
    size_t n = (size_t)(strchr(at + 1, ' ') - at) + 1;
    memcpy(word, at, n);
    word[n] = '\0';
    bool held = strstr(have, word) != NULL;
    all = all && held;
    any = any || held;
  }
  return strcmp(op, "text") == 0 ? all : any;
}

/* ---- places ---------------------------------------------------------------------------------------------------- */

static double oracle_coordinate(const json_t *point, const char *name)
{
  return json_number_value(json_object_get(point, name));
}

/* By the angle between two directions in space. */
static double oracle_distance(const json_t *a, const json_t *b)
{
  double v[2][3], cross = 0, dot = 0;
  const json_t *points[2] = {a, b};
  for (int i = 0; i < 2; i++) {
    double lon = oracle_coordinate(points[i], "lon") * M_PI / 180,
           lat = oracle_coordinate(points[i], "lat") * M_PI / 180;
    v[i][0] = cos(lat) * cos(lon);
    v[i][1] = cos(lat) * sin(lon);
    v[i][2] = sin(lat);
  }
  for (int i = 0; i < 3; i++) {
    double c = v[0][(i + 1) % 3] * v[1][(i + 2) % 3] - v[0][(i + 2) % 3] * v[1][(i + 1) % 3];
    cross += c * c;
    dot += v[0][i] * v[1][i];
  }
  return 6371008.8 * atan2(sqrt(cross), dot);
}

/* -1 outside, 0 on the edge, 1 inside: a ray to the north, in whole numbers (halves of a degree). */
static int oracle_ring(const json_t *points, int64_t x, int64_t y)
{
  int64_t px[64], py[64];
  size_t n = json_array_size(points);
  bool inside = false;
  for (size_t i = 0; i < n; i++) {
    px[i] = (int64_t)(oracle_coordinate(json_array_get(points, i), "lon") * 2);
    py[i] = (int64_t)(oracle_coordinate(json_array_get(points, i), "lat") * 2);
    while (i > 0 && px[i] - px[i - 1] > 360) px[i] -= 720;
    while (i > 0 && px[i] - px[i - 1] < -360) px[i] += 720;
  }
  for (int64_t k = -2; k <= 2; k++) {
    int64_t at = x + k * 720;
    for (size_t i = 0; i + 1 < n; i++) {
      size_t l = px[i] <= px[i + 1] ? i : i + 1, r = l == i ? i + 1 : i;
      int64_t side = (px[r] - px[l]) * (y - py[l]) - (py[r] - py[l]) * (at - px[l]); /* above the edge: positive */
      int64_t low = py[l] < py[r] ? py[l] : py[r], high = py[l] < py[r] ? py[r] : py[l];
      if (side == 0 && at >= px[l] && at <= px[r] && y >= low && y <= high) return 0;
      if (px[l] <= at && at < px[r] && side < 0) inside = !inside;
    }
  }
  return inside ? 1 : -1;
}

static bool oracle_polygon(const json_t *shape, int64_t x, int64_t y)
{
  const json_t *holes = json_object_get(shape, "interiors");
  if (oracle_ring(json_object_get(json_object_get(shape, "exterior"), "points"), x, y) != 1) return false;
  for (size_t i = 0; i < json_array_size(holes); i++) {
    if (oracle_ring(json_object_get(json_array_get(holes, i), "points"), x, y) != -1) return false;
  }
  return true;
}

static bool oracle_geo(const char *op, const json_t *shape, const json_t *value)
{
  const json_t *lon = json_object_get(value, "lon"), *lat = json_object_get(value, "lat");
  if (!json_is_number(lon) || !json_is_number(lat)) return false;
  double x = json_number_value(lon), y = json_number_value(lat);
  if (fabs(x) > 180 || fabs(y) > 90) return false;
  if (strcmp(op, "geo_radius") == 0) {
    return oracle_distance(value, json_object_get(shape, "center")) <=
           json_number_value(json_object_get(shape, "radius"));
  }
  if (strcmp(op, "geo_polygon") == 0) return oracle_polygon(shape, (int64_t)(x * 2), (int64_t)(y * 2));
  const json_t *from = json_object_get(shape, "top_left"), *to = json_object_get(shape, "bottom_right");
  double west = oracle_coordinate(from, "lon"), east = oracle_coordinate(to, "lon");
  if (east < west) east += 360;
  bool between = (x > west && x < east) || (x + 360 > west && x + 360 < east);
  return between && y < oracle_coordinate(from, "lat") && y > oracle_coordinate(to, "lat");
}

/* ---- conditions ------------------------------------------------------------------------------------------------ */

static bool oracle_scalar(const char *op, const json_t *operand, const json_t *value)
{
  if (strcmp(op, "value") == 0) return oracle_equal(value, operand);
  if (strcmp(op, "any") == 0) return oracle_among(value, operand);
  if (strcmp(op, "except") == 0) return !json_is_null(value) && !oracle_among(value, operand);
  if (strcmp(op, "range") == 0) return oracle_range(operand, value);
  if (strncmp(op, "geo_", 4) == 0) return oracle_geo(op, operand, value);
  return oracle_text(op, value, operand);
}

/* On one value that a path led to. */
static bool oracle_value(const char *op, const json_t *operand, const json_t *value)
{
  size_t n = json_is_array(value) ? json_array_size(value) : !json_is_null(value);
  if (strcmp(op, "values_count") == 0) return oracle_bounds(operand, n, false);
  if (strcmp(op, "filled") == 0) return n > 0;
  if (strcmp(op, "null") == 0 && json_is_null(value)) return true;
  if (!json_is_array(value)) {
    return strcmp(op, "null") != 0 && strcmp(op, "contains") != 0 && oracle_scalar(op, operand, value);
  }
  for (size_t i = 0; i < n; i++) {
    const json_t *element = json_array_get(value, i);
    if (strcmp(op, "null") == 0       ? json_is_null(element)
        : strcmp(op, "contains") == 0 ? oracle_equal(element, operand)
                                      : !json_is_array(element) && oracle_scalar(op, operand, element)) {
      return true;
    }
  }
  return false;
}

static bool oracle_field(const json_t *payload, const char *key, const char *op, const json_t *operand)
{
  bool whole;
  oracle_values found = oracle_find(payload, key, &whole);
  if (found.n == 0 && strcmp(op, "values_count") == 0) return oracle_bounds(operand, 0, false);
  for (size_t i = 0; i < found.n; i++) {
    if (oracle_value(op, operand, found.v[i])) return true;
  }
  return false;
}

static bool oracle_nested(const json_t *nested, const json_t *payload)
{
  const char *key = json_string_value(json_object_get(nested, "key"));
  size_t n = strlen(key);
  bool whole;
  oracle_values found = oracle_find(payload, key, &whole);
  bool ends_each = !whole && n > 2 && strcmp(key + n - 2, "[]") == 0;
  for (size_t i = 0; i < found.n; i++) {
    size_t n_elements = ends_each ? 1 : json_array_size(found.v[i]);
    for (size_t e = 0; e < n_elements; e++) {
      const json_t *element = ends_each ? found.v[i] : json_array_get(found.v[i], e);
      if (json_is_object(element) && oracle_filter(json_object_get(nested, "filter"), element, 0)) return true;
    }
  }
  return false;
}

static bool oracle_condition(const json_t *condition, const json_t *payload)
{
  const char *key = json_string_value(json_object_get(condition, "key")), *name;
  json_t *value;
  bool holds = true;
  json_object_foreach((json_t *)(uintptr_t)condition, name, value)
  {
    if (strcmp(name, "key") == 0) continue;
    if (strcmp(name, "is_null") == 0) holds = oracle_field(payload, key, "null", NULL) == json_is_true(value);
    else if (strcmp(name, "is_empty") == 0) holds = oracle_field(payload, key, "filled", NULL) != json_is_true(value);
    else if (strcmp(name, "match") != 0) holds = oracle_field(payload, key, name, value);
    else {
      void *only = json_object_iter(value);
      holds = oracle_field(payload, key, json_object_iter_key(only), json_object_iter_value(only));
    }
  }
  return holds;
}

static bool oracle_chroma(const json_t *payload, const char *key, const json_t *ops)
{
  const char *name;
  json_t *operand, *bounds = json_object();
  bool holds = true;
  if (!json_is_object(ops)) {
    json_decref(bounds);
    return oracle_field(payload, key, "value", ops);
  }
  json_object_foreach((json_t *)(uintptr_t)ops, name, operand)
  {
    if (strcmp(name, "$eq") == 0) holds = holds && oracle_field(payload, key, "value", operand);
    else if (strcmp(name, "$ne") == 0) holds = holds && !oracle_field(payload, key, "value", operand);
    else if (strcmp(name, "$in") == 0) holds = holds && oracle_field(payload, key, "any", operand);
    else if (strcmp(name, "$nin") == 0) holds = holds && !oracle_field(payload, key, "any", operand);
    else if (strcmp(name, "$contains") == 0) holds = holds && oracle_field(payload, key, "contains", operand);
    else if (strcmp(name, "$not_contains") == 0) holds = holds && !oracle_field(payload, key, "contains", operand);
    else json_object_set(bounds, name, operand);
  }
  if (json_object_size(bounds) > 0) holds = holds && oracle_field(payload, key, "range", bounds);
  json_decref(bounds);
  return holds;
}

/* How many of the conditions hold; a single object is a list of one. */
static size_t oracle_count(const json_t *list, const json_t *payload, int64_t id, size_t *n)
{
  size_t held = 0;
  *n = json_is_array(list) ? json_array_size(list) : 1;
  for (size_t i = 0; i < *n; i++)
    held += oracle_filter(json_is_array(list) ? json_array_get(list, i) : list, payload, id);
  return held;
}

static bool oracle_member(const char *name, const json_t *value, const json_t *payload, int64_t id)
{
  size_t n = 0, held;
  bool whole;
  if (strcmp(name, "has_id") == 0) {
    for (size_t i = 0; i < json_array_size(value); i++) {
      if (json_integer_value(json_array_get(value, i)) == id) return true;
    }
    return false;
  }
  if (strcmp(name, "nested") == 0) return oracle_nested(value, payload);
  if (strcmp(name, "is_null") == 0 || strcmp(name, "is_empty") == 0) {
    const char *key = json_string_value(json_object_get(value, "key"));
    if (strcmp(name, "is_null") == 0) return oracle_field(payload, key, "null", NULL);
    oracle_values found = oracle_find(payload, key, &whole);
    for (size_t i = 0; i < found.n; i++) {
      if (oracle_value("filled", NULL, found.v[i])) return false;
    }
    return true;
  }
  if (strcmp(name, "min_should") == 0) {
    held = oracle_count(json_object_get(value, "conditions"), payload, id, &n);
    return (int64_t)held >= json_integer_value(json_object_get(value, "min_count"));
  }
  if (strcmp(name, "must") != 0 && strcmp(name, "should") != 0 && strcmp(name, "must_not") != 0 && name[0] != '$') {
    return oracle_chroma(payload, name, value);
  }
  held = oracle_count(value, payload, id, &n);
  if (strcmp(name, "must") == 0 || strcmp(name, "$and") == 0) return held == n;
  if (strcmp(name, "should") == 0 && n == 0) return true;
  if (strcmp(name, "should") == 0 || strcmp(name, "$or") == 0) return held > 0;
  return held == 0;
}

static bool oracle_filter(const json_t *filter, const json_t *payload, int64_t id)
{
  const char *name;
  json_t *value;
  bool holds = true;
  if (json_is_string(json_object_get(filter, "key")) && json_object_size(filter) > 1) {
    return oracle_condition(filter, payload);
  }
  json_object_foreach((json_t *)(uintptr_t)filter, name, value)
  {
    holds = oracle_member(name, value, payload, id) && holds;
  }
  return holds;
}

#endif
