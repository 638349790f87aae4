/* geo.c - places: boxes, circles and polygons of longitude and latitude, compiled from Qdrant's form.
 *
 *   geo_bounding_box  {"top_left": POINT, "bottom_right": POINT}; left of the date line to right of it when the left
 *                     longitude is the larger one
 *   geo_radius        {"center": POINT, "radius": METRES} on a sphere of the earth's mean radius
 *   geo_polygon       {"exterior": {"points": [...]}, "interiors": [{"points": [...]}, ...]} with closed rings
 * where POINT is {"lon": 13.4, "lat": 52.5}. Points on the edge of a box or polygon are outside of it, also on the edge
 * of a hole.
 *
 * Edges of a polygon are straight in longitude and latitude and go the shorter way round the globe, so that a ring may
 * lie across the date line: its longitudes are unrolled when it is compiled. What could be meant in two ways is refused:
 * an edge of half the globe, a ring around a pole or around the whole globe.
 */
#include <math.h>

#include "lib/json/json.h"
#include "src/vector/filter.h"

static const double EARTH_RADIUS = 6371008.8; /* metres, mean (IUGG) */

static aiinfra_status bad_geo(aii_compiler *c, const char *why)
{
  return aii_fail(c->err, AIINFRA_EINVAL, "filter: %s: %s", c->path, why);
}

bool aii_point_valid(aii_point point)
{
  return point.lon >= -180 && point.lon <= 180 && point.lat >= -90 && point.lat <= 90;
}

static aiinfra_status read_point(aii_compiler *c, const json_t *json, aii_point *point)
{
  const json_t *lon = json_object_get(json, "lon"), *lat = json_object_get(json, "lat");
  if (!json_is_number(lon) || !json_is_number(lat) || json_object_size(json) != 2) {
    return aii_expected(c, "an object with the numbers \"lon\" and \"lat\" alone", json);
  }
  *point = (aii_point){json_number_value(lon), json_number_value(lat)};
  return aii_point_valid(*point) ? AIINFRA_OK : bad_geo(c, "lon is not within 180 or lat not within 90 degrees");
}

static aiinfra_status read_member_point(aii_compiler *c, const json_t *json, const char *name, aii_point *point)
{
  size_t old = aii_enter(c, name, 0);
  aiinfra_status rc = read_point(c, json_object_get(json, name), point);
  if (rc == AIINFRA_OK) aii_leave(c, old);
  return rc;
}

/* ---- box and circle -------------------------------------------------------------------------------------------- */

static aiinfra_status compile_box(aii_compiler *c, const json_t *json, aii_shape *shape)
{
  if (json_object_size(json) != 2)
    return aii_expected(c, "an object with \"top_left\" and \"bottom_right\" alone", json);
  aiinfra_status rc = read_member_point(c, json, "top_left", &shape->a);
  if (rc == AIINFRA_OK) rc = read_member_point(c, json, "bottom_right", &shape->b);
  if (rc != AIINFRA_OK) return rc;
  shape->kind = AII_SHAPE_BOX;
  if (shape->a.lat <= shape->b.lat) return bad_geo(c, "top_left is not above bottom_right");
  if (shape->a.lon == shape->b.lon) return bad_geo(c, "top_left and bottom_right have the same longitude");
  return AIINFRA_OK;
}

static aiinfra_status compile_circle(aii_compiler *c, const json_t *json, aii_shape *shape)
{
  const json_t *radius = json_object_get(json, "radius");
  if (json_object_size(json) != 2) return aii_expected(c, "an object with \"center\" and \"radius\" alone", json);
  if (!json_is_number(radius) || json_number_value(radius) < 0) {
    (void)aii_enter(c, "radius", 0);
    return aii_expected(c, "a number of metres, at least 0", radius);
  }
  shape->kind = AII_SHAPE_CIRCLE;
  shape->radius = json_number_value(radius);
  return read_member_point(c, json, "center", &shape->a);
}

static bool in_box(const aii_shape *box, aii_point p)
{
  bool between =
      box->a.lon < box->b.lon ? box->a.lon < p.lon && p.lon < box->b.lon : box->a.lon < p.lon || p.lon < box->b.lon;
  return between && box->b.lat < p.lat && p.lat < box->a.lat;
}

/* By the haversine formula, which stays exact for small distances. */
double aii_geo_distance(aii_point a, aii_point b)
{
  const double rad = 0.017453292519943295;
  double lat = sin((b.lat - a.lat) * rad / 2), lon = sin((b.lon - a.lon) * rad / 2);
  double h = lat * lat + cos(a.lat * rad) * cos(b.lat * rad) * lon * lon;
  return 2 * EARTH_RADIUS * asin(sqrt(AII_MIN(h, 1.0)));
}

/* ---- polygons -------------------------------------------------------------------------------------------------- */

static aiinfra_status add_point(aii_compiler *c, aii_ring *ring, aii_point point)
{
  aii_filter *f = c->filter;
  if (f->n_points == AII_POLYGON_POINTS) {
    return aii_fail(c->err, AIINFRA_EINVAL, "filter: %s: more than %d points", c->path, AII_POLYGON_POINTS);
  }
  if (!aii_grow(f->mem, &f->points, &f->points_cap, f->n_points + 1, sizeof *f->points)) return aii_filter_no_memory(c);
  if (ring->n > 0) { /* the shorter way from the point before */
    double step = point.lon - f->points[f->n_points - 1].lon;
    step -= 360 * nearbyint(step / 360);
    if (fabs(step) == 180) return bad_geo(c, "an edge of half the globe can go either way; put a point between");
    point.lon = f->points[f->n_points - 1].lon + step;
  }
  ring->west = ring->n > 0 ? fmin(ring->west, point.lon) : point.lon;
  ring->east = ring->n > 0 ? fmax(ring->east, point.lon) : point.lon;
  f->points[f->n_points++] = point;
  ring->n++;
  return AIINFRA_OK;
}

static aiinfra_status compile_points(aii_compiler *c, const json_t *points, aii_ring *ring)
{
  aiinfra_status rc = AIINFRA_OK;
  size_t n = json_array_size(points);
  aii_point first = {0, 0}, point = {0, 0}, before;
  if (n < 4) return aii_expected(c, "an array of at least 4 points", points);
  for (size_t i = 0; i < n; i++) {
    size_t old = aii_enter(c, NULL, i);
    before = point;
    rc = read_point(c, json_array_get(points, i), &point);
    if (i == 0) first = before = point;
    if (rc == AIINFRA_OK && fabs(point.lon - before.lon) == 360) {
      rc = bad_geo(c, "an edge around the whole globe; put points between");
    }
    if (rc == AIINFRA_OK) rc = add_point(c, ring, point);
    if (rc != AIINFRA_OK) return rc;
    aii_leave(c, old);
  }
  if (point.lon != first.lon || point.lat != first.lat) return bad_geo(c, "the last point is not the first again");
  if (fabs(c->filter->points[ring->first].lon - c->filter->points[c->filter->n_points - 1].lon) > 180) {
    return bad_geo(c, "a ring around a pole");
  }
  return ring->east - ring->west < 360 ? AIINFRA_OK : bad_geo(c, "a ring around the whole globe");
}

/* {"points": [...]} */
static aiinfra_status compile_ring(aii_compiler *c, const json_t *json, aii_shape *shape)
{
  aii_filter *f = c->filter;
  aii_ring ring = {.first = (uint32_t)f->n_points};
  const json_t *points = json_object_get(json, "points");
  if (!json_is_array(points) || json_object_size(json) != 1) {
    return aii_expected(c, "an object with the array \"points\" alone", json);
  }
  size_t old = aii_enter(c, "points", 0);
  aiinfra_status rc = compile_points(c, points, &ring);
  if (rc != AIINFRA_OK) return rc;
  aii_leave(c, old);
  if (!aii_grow(f->mem, &f->rings, &f->rings_cap, f->n_rings + 1, sizeof *f->rings)) return aii_filter_no_memory(c);
  f->rings[f->n_rings++] = ring;
  shape->n++;
  return AIINFRA_OK;
}

static aiinfra_status compile_polygon(aii_compiler *c, const json_t *json, aii_shape *shape)
{
  const json_t *exterior = json_object_get(json, "exterior"), *interiors = json_object_get(json, "interiors");
  size_t holes = interiors != NULL;
  if (exterior == NULL || json_object_size(json) != 1 + holes) {
    return aii_expected(c, "an object with \"exterior\" and perhaps \"interiors\"", json);
  }
  shape->kind = AII_SHAPE_POLYGON;
  shape->first = (uint32_t)c->filter->n_rings;
  size_t old = aii_enter(c, "exterior", 0);
  aiinfra_status rc = compile_ring(c, exterior, shape);
  if (rc != AIINFRA_OK) return rc;
  aii_leave(c, old);
  if (interiors == NULL || json_is_null(interiors)) return AIINFRA_OK;
  old = aii_enter(c, "interiors", 0);
  if (!json_is_array(interiors)) return aii_expected(c, "an array of rings", interiors);
  for (size_t i = 0; i < json_array_size(interiors); i++) {
    size_t at = aii_enter(c, NULL, i);
    rc = compile_ring(c, json_array_get(interiors, i), shape);
    if (rc != AIINFRA_OK) return rc;
    aii_leave(c, at);
  }
  aii_leave(c, old);
  return AIINFRA_OK;
}

typedef enum side { OUTSIDE, ON_EDGE, INSIDE } side;

/* Whether a ray to the east crosses the ring an odd number of times. */
static side side_of(const aii_point *points, uint32_t n, aii_point p)
{
  bool inside = false;
  for (uint32_t i = 0; i + 1 < n; i++) {
    aii_point a = points[i], b = points[i + 1];
    double turn = (b.lon - a.lon) * (p.lat - a.lat) - (b.lat - a.lat) * (p.lon - a.lon);
    bool within = fmin(a.lon, b.lon) <= p.lon && p.lon <= fmax(a.lon, b.lon) && fmin(a.lat, b.lat) <= p.lat &&
                  p.lat <= fmax(a.lat, b.lat);
    if (turn == 0 && within) return ON_EDGE;
    if ((a.lat > p.lat) != (b.lat > p.lat) && (turn > 0) == (b.lat > a.lat)) inside = !inside;
  }
  return inside ? INSIDE : OUTSIDE;
}

static side ring_side(const aii_filter *filter, const aii_ring *ring, aii_point p, uint64_t *steps)
{
  p.lon += 360 * ceil((ring->west - p.lon) / 360); /* the first of its longitudes that is not west of the ring */
  *steps -= AII_MIN(*steps, (uint64_t)ring->n);
  return p.lon > ring->east ? OUTSIDE : side_of(filter->points + ring->first, ring->n, p);
}

static bool in_polygon(const aii_filter *filter, const aii_shape *polygon, aii_point p, uint64_t *steps)
{
  const aii_ring *rings = filter->rings + polygon->first;
  if (ring_side(filter, &rings[0], p, steps) != INSIDE) return false;
  for (uint32_t i = 1; i < polygon->n; i++) {
    if (ring_side(filter, &rings[i], p, steps) != OUTSIDE) return false;
  }
  return true;
}

/* ---- all shapes ------------------------------------------------------------------------------------------------ */

aiinfra_status aii_compile_geo(aii_compiler *c, const char *kind, const json_t *json, uint32_t node)
{
  aii_filter *f = c->filter;
  aii_shape shape = {.kind = AII_SHAPE_BOX};
  aiinfra_status rc;
  if (strcmp(kind, "geo_bounding_box") == 0) rc = compile_box(c, json, &shape);
  else if (strcmp(kind, "geo_radius") == 0) rc = compile_circle(c, json, &shape);
  else if (strcmp(kind, "geo_polygon") == 0) rc = compile_polygon(c, json, &shape);
  else return aii_unknown(c, "geo_bounding_box, geo_radius and geo_polygon");
  if (rc != AIINFRA_OK) return rc;
  if (!aii_grow(f->mem, &f->shapes, &f->shapes_cap, f->n_shapes + 1, sizeof *f->shapes)) return aii_filter_no_memory(c);
  f->nodes[node].first = (uint32_t)f->n_shapes;
  f->shapes[f->n_shapes++] = shape;
  return AIINFRA_OK;
}

bool aii_shape_holds(const aii_filter *filter, const aii_shape *shape, aii_point p, uint64_t *steps)
{
  if (!aii_point_valid(p)) return false;
  switch (shape->kind) {
    case AII_SHAPE_BOX: return in_box(shape, p);
    case AII_SHAPE_CIRCLE: return aii_geo_distance(shape->a, p) <= shape->radius;
    default: return in_polygon(filter, shape, p, steps);
  }
}
