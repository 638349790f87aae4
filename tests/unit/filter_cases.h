/* filter_cases.h - random filters of every form and random payloads that they have a chance with. */
#ifndef AIINFRA_TESTS_FILTER_CASES_H
#define AIINFRA_TESTS_FILTER_CASES_H

#include <jansson.h>

#include "support/support.h"

#define PICK(seed, array) ((array)[test_random(seed) % (sizeof(array) / sizeof((array)[0]))])

static size_t dice(unsigned long long *seed, size_t n)
{
  return (size_t)(test_random(seed) % n);
}

static const char *const CASE_KEYS[] = {"a", "b", "c", "x.y", "loc"};
static const char *const CASE_PATHS[] = {
    "a",     "b",       "c",      "loc",   "x.y",     "\"x.y\"",    "a.b",   "a.b.c", "a[]",
    "a[].b", "a[0]",    "a[1].b", "b[].c", "b[][].a", "a.\"x.y\"",  "b.x.y", "b[]",   "c[].loc",
    "a.loc", "c.a[].b", "b[2]",   "c[][]", "loc.lon", "\"a\".b[0]", "c.c.c"};
static const char *const CASE_TEXTS[] = {"",
                                         "x",
                                         "y",
                                         "fox",
                                         "Quick brown Fox",
                                         "the fox, quick",
                                         "xyz",
                                         "\xC3\x84rger",
                                         "\xC3\xA4rger fox",
                                         "a-b c",
                                         "brown",
                                         "  ",
                                         "1",
                                         "true",
                                         "fox fox quick brown"};
static const char *const CASE_DATES[] = {"2020-01-31",
                                         "2020-01-31T12:00:00Z",
                                         "2020-01-31T13:00:00+01:00",
                                         "2020-01-31 12:00:00.5",
                                         "2020-01-31T12:00:00.25-02:30",
                                         "1969-07-20T20:17:40Z",
                                         "2024-02-29T23:59:59Z",
                                         "2019-02-29",
                                         "2020-01-32",
                                         "2020-01-31T00:00:00Z"};

/* Half of all fields are members of the payload itself, so that many conditions meet a value. */
static const char *random_path(unsigned long long *seed)
{
  return dice(seed, 2) == 0 ? CASE_PATHS[dice(seed, 3)] : PICK(seed, CASE_PATHS);
}

static json_t *random_number(unsigned long long *seed)
{
  static const double reals[] = {0.5, 1.0, 1.5, -2.0, 3.25, 1e300, 9007199254740992.0, -0.0};
  static const long long integers[] = {0, 1, 2, 3, -1, -2, 9007199254740992, 9007199254740993, INT64_MAX, INT64_MIN};
  return dice(seed, 3) == 0 ? json_real(PICK(seed, reals)) : json_integer(PICK(seed, integers));
}

static json_t *random_scalar(unsigned long long *seed)
{
  switch (dice(seed, 6)) {
    case 0: return json_boolean(dice(seed, 2) == 0);
    case 1:
    case 2: return random_number(seed);
    case 3: return json_string(PICK(seed, CASE_DATES));
    default: return json_string(PICK(seed, CASE_TEXTS));
  }
}

/* Whole and half degrees near a place that is sometimes on the date line; `far`: anywhere, also beyond the globe. */
static json_t *random_point(unsigned long long *seed, bool far)
{
  static const int near[] = {0, 12, 179, -180};
  double lon = PICK(seed, near) + (double)dice(seed, 41) / 2 - 10, lat = (double)dice(seed, 41) / 2 - 10;
  if (far && dice(seed, 20) == 0) lat *= 20;
  if (!far || dice(seed, 20) != 0) lon -= 360 * nearbyint(lon / 360);
  if (floor(lon) == lon && dice(seed, 2) == 0) return json_pack("{s:i,s:f}", "lon", (int)lon, "lat", lat);
  return json_pack("{s:f,s:f}", "lat", lat, "lon", lon);
}

static json_t *random_value(unsigned long long *seed, int depth)
{
  size_t what = dice(seed, depth > 0 ? 12 : 7), n = dice(seed, 4);
  json_t *value;
  if (what == 0) return json_null();
  if (what < 5) return random_scalar(seed);
  if (what == 5) return json_string(PICK(seed, CASE_TEXTS));
  if (what == 6) return random_point(seed, true);
  if (what < 10) {
    value = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(value, random_value(seed, depth - 1));
  } else {
    value = json_object();
    for (size_t i = 0; i < n; i++) json_object_set_new(value, PICK(seed, CASE_KEYS), random_value(seed, depth - 1));
  }
  return value;
}

static json_t *random_payload(unsigned long long *seed)
{
  json_t *payload = json_object();
  for (size_t i = dice(seed, 6); i > 0; i--) json_object_set_new(payload, PICK(seed, CASE_KEYS), random_value(seed, 3));
  return payload;
}

/* ---- filters --------------------------------------------------------------------------------------------------- */

static json_t *random_scalars(unsigned long long *seed)
{
  json_t *list = json_array();
  for (size_t i = dice(seed, 5); i > 0; i--) json_array_append_new(list, random_scalar(seed));
  return list;
}

static json_t *random_date(unsigned long long *seed)
{
  return json_string(CASE_DATES[dice(seed, 7)]); /* those that are dates */
}

/* Names with a prefix, "" or "$". Qdrant's form allows null for no bound. */
static json_t *random_bounds(unsigned long long *seed, const char *prefix, bool count)
{
  static const char *const names[] = {"lt", "lte", "gt", "gte"};
  json_t *bounds = json_object();
  bool dates = !count && dice(seed, 2) == 0;
  for (size_t i = 1 + dice(seed, 2); i > 0; i--) {
    char name[8];
    snprintf(name, sizeof name, "%s%s", prefix, PICK(seed, names));
    json_object_set_new(bounds, name,
                        count   ? json_integer((int)dice(seed, 5) - 1)
                        : dates ? random_date(seed)
                                : random_number(seed));
  }
  if (prefix[0] == '\0' && dice(seed, 4) == 0 && json_object_get(bounds, "gt") == NULL) {
    json_object_set_new(bounds, "gt", json_null());
  }
  return bounds;
}

/* A closed ring around a centre; the last point is the first. */
static json_t *random_ring(unsigned long long *seed, int x, int y, int size)
{
  json_t *points = json_array();
  double date_line = dice(seed, 2) == 0 ? 180 : -180; /* not both in one ring */
  for (size_t i = 3 + dice(seed, 5); i > 0; i--) {
    double lon = x + (double)dice(seed, (size_t)size * 4 + 1) / 2 - size;
    double lat = y + (double)dice(seed, (size_t)size * 4 + 1) / 2 - size;
    lon -= 360 * nearbyint(lon / 360);
    if (fabs(lon) == 180) lon = date_line;
    json_array_append_new(points, json_pack("{s:f,s:f}", "lon", lon, "lat", lat));
  }
  json_array_append(points, json_array_get(points, 0));
  return json_pack("{s:o}", "points", points);
}

static json_t *random_geo(unsigned long long *seed, const char **op)
{
  static const int near[] = {0, 12, 179, -180};
  int x = PICK(seed, near), y = (int)dice(seed, 9) - 4;
  size_t what = dice(seed, 3);
  if (what == 0) {
    *op = "geo_radius";
    return json_pack("{s:o,s:f}", "center", random_point(seed, false), "radius",
                     12345.678 * (double)(1 + dice(seed, 99)));
  }
  if (what == 1) {
    double west = x - 0.5 - (double)dice(seed, 8), east = x + 0.5 + (double)dice(seed, 8);
    *op = "geo_bounding_box";
    west -= 360 * nearbyint(west / 360);
    east -= 360 * nearbyint(east / 360);
    return json_pack("{s:{s:f,s:f},s:{s:f,s:f}}", "top_left", "lon", west, "lat", y + 1.5, "bottom_right", "lon", east,
                     "lat", y - (double)dice(seed, 5));
  }
  *op = "geo_polygon";
  json_t *shape = json_pack("{s:o}", "exterior", random_ring(seed, x, y, 10));
  if (dice(seed, 2) == 0) { json_object_set_new(shape, "interiors", json_pack("[o]", random_ring(seed, x, y, 4))); }
  return shape;
}

static json_t *random_condition(unsigned long long *seed)
{
  static const char *const texts[] = {"text", "text_any", "phrase", "prefix"};
  const char *key = random_path(seed), *op = "";
  switch (dice(seed, 12)) {
    case 0: return json_pack("{s:s,s:{s:o}}", "key", key, "match", "any", random_scalars(seed));
    case 1: return json_pack("{s:s,s:{s:o}}", "key", key, "match", "except", random_scalars(seed));
    case 2:
    case 3: return json_pack("{s:s,s:{s:s}}", "key", key, "match", PICK(seed, texts), PICK(seed, CASE_TEXTS));
    case 4:
    case 5: return json_pack("{s:s,s:o}", "key", key, "range", random_bounds(seed, "", false));
    case 6: return json_pack("{s:s,s:o}", "key", key, "values_count", random_bounds(seed, "", true));
    case 7: return json_pack("{s:s,s:b}", "key", key, dice(seed, 2) == 0 ? "is_null" : "is_empty", (int)dice(seed, 2));
    case 8:
    case 9: {
      json_t *shape = random_geo(seed, &op);
      return json_pack("{s:s,s:o}", "key", dice(seed, 2) == 0 ? "loc" : key, op, shape);
    }
    default: return json_pack("{s:s,s:{s:o}}", "key", key, "match", "value", random_scalar(seed));
  }
}

static json_t *random_chroma(unsigned long long *seed)
{
  static const char *const lists[] = {"$in", "$nin"}, *const scalars[] = {"$eq", "$ne", "$contains", "$not_contains"};
  const char *key = random_path(seed);
  json_t *ops;
  if (dice(seed, 4) == 0) return json_pack("{s:o}", key, random_scalar(seed));
  ops = dice(seed, 2) == 0 ? random_bounds(seed, "$", false) : json_object();
  if (dice(seed, 3) == 0) json_object_set_new(ops, PICK(seed, lists), random_scalars(seed));
  if (json_object_size(ops) == 0 || dice(seed, 4) == 0) {
    json_object_set_new(ops, PICK(seed, scalars), random_scalar(seed));
  }
  return json_pack("{s:o}", key, ops);
}

static json_t *random_filter(unsigned long long *seed, int depth, bool nested);

static json_t *random_list(unsigned long long *seed, int depth, bool nested)
{
  json_t *list = json_array();
  if (dice(seed, 10) == 0) {
    json_decref(list);
    return random_filter(seed, depth, nested);
  }
  for (size_t i = dice(seed, 4); i > 0; i--) json_array_append_new(list, random_filter(seed, depth, nested));
  return list;
}

static json_t *random_clauses(unsigned long long *seed, int depth, bool nested)
{
  static const char *const clauses[] = {"must", "should", "must_not", "$and", "$or"};
  json_t *filter = json_object();
  for (size_t i = 1 + dice(seed, 2); i > 0; i--) {
    switch (dice(seed, 8)) {
      case 0: json_object_set_new(filter, "$not", random_filter(seed, depth, nested)); break;
      case 1:
        json_object_set_new(
            filter, "nested",
            json_pack("{s:s,s:o}", "key", random_path(seed), "filter", random_filter(seed, depth, true)));
        break;
      case 2:
        json_object_set_new(
            filter, "min_should",
            json_pack("{s:o,s:i}", "conditions", random_list(seed, depth, nested), "min_count", (int)dice(seed, 4)));
        break;
      default: json_object_set_new(filter, PICK(seed, clauses), random_list(seed, depth, nested));
    }
  }
  return filter;
}

static json_t *random_filter(unsigned long long *seed, int depth, bool nested)
{
  size_t what = dice(seed, depth > 0 ? 10 : 6);
  if (what < 3) return random_condition(seed);
  if (what < 5) return random_chroma(seed);
  if (what == 5) {
    size_t which = dice(seed, nested ? 2 : 3);
    if (which == 2) return json_pack("{s:[i,i]}", "has_id", (int)dice(seed, 10), (int)dice(seed, 10));
    return json_pack("{s:{s:s}}", which == 0 ? "is_null" : "is_empty", "key", random_path(seed));
  }
  return random_clauses(seed, depth - 1, nested);
}

#endif
