/* doc.c - payloads as documents: see doc.h for their form.
 *
 * The happy path: the JSON tree is walked with a stack of open containers, each value becomes a cell behind its
 * parent's, its bytes go to a second buffer, which ends up behind the cells. Only memory can fail. The dictionary of
 * keys belongs to whoever keeps the documents. No state of its own.
 */
#include <math.h>

#include "lib/json/json.h"
#include "src/vector/doc.h"

const aii_cell aii_doc_empty = {.key = sizeof(aii_cell) / 8, .type = AII_CELL_OBJECT, .span = 1};

/* ---- keys ------------------------------------------------------------------------------------------------------ */

void aii_keys_init(aii_keys *keys, aii_mem *mem)
{
  memset(keys, 0, sizeof *keys);
  keys->mem = mem;
  aii_map_init(&keys->map, mem);
}

void aii_keys_free(aii_keys *keys)
{
  for (size_t i = 0; i < keys->n; i++) aii_del(keys->mem, keys->names[i].s, keys->names[i].n);
  aii_del(keys->mem, keys->names, keys->cap * sizeof *keys->names);
  aii_map_free(&keys->map);
  aii_keys_init(keys, keys->mem);
}

uint32_t aii_keys_find(const aii_keys *keys, const char *s, size_t n)
{
  uint32_t key;
  return aii_map_get(&keys->map, s, n, &key) ? key : AII_NO_KEY;
}

bool aii_keys_add(aii_keys *keys, const char *s, size_t n, uint32_t *key)
{
  if (aii_map_get(&keys->map, s, n, key)) return true;
  if (!aii_grow(keys->mem, &keys->names, &keys->cap, keys->n + 1, sizeof *keys->names)) return false;
  char *own = aii_new_raw(keys->mem, n + 1); /* "" is a key, too */
  if (own == NULL) return false;
  memcpy(own, s, n);
  if (!aii_map_set(&keys->map, own, n, (uint32_t)keys->n)) {
    aii_del(keys->mem, own, n + 1);
    return false;
  }
  *key = (uint32_t)keys->n;
  keys->names[keys->n++] = (aii_key_name){own, n + 1};
  keys->bytes += n + sizeof *keys->names + 3 * sizeof(aii_map_slot);
  return true;
}

/* ---- packing --------------------------------------------------------------------------------------------------- */

typedef struct open_container {
  json_t *json;
  void *member; /* the next one of an object */
  size_t next;  /* ... of an array */
  size_t cell;
} open_container;

typedef struct packer {
  aii_keys *keys;
  bool add, failed;
  aii_buf *cells;
  size_t first; /* byte of cell 0 */
  aii_buf strings;
  open_container open[AII_JSON_MAX_DEPTH];
  uint32_t depth;
} packer;

static aii_cell *cell_at(packer *p, size_t cell)
{
  return (aii_cell *)(void *)(p->cells->data + p->first) + cell;
}

static size_t n_cells(const packer *p)
{
  return (p->cells->len - p->first) / sizeof(aii_cell);
}

void aii_number_of(const json_t *number, uint32_t *type, int64_t *i, double *d)
{
  *type = AII_CELL_INT;
  *d = json_number_value(number);
  if (json_is_integer(number)) {
    *i = json_integer_value(number);
  } else if (*d >= -0x1p63 && *d < 0x1p63 && (double)(int64_t)*d == *d) {
    *i = (int64_t)*d;
  } else {
    *type = AII_CELL_REAL;
    *i = 0;
  }
}

static void pack_string(packer *p, const json_t *json, aii_cell *cell)
{
  const char *s = json_string_value(json);
  size_t n = json_string_length(json);
  int64_t us;
  cell->type = AII_CELL_STRING;
  if (aii_time_parse(s, n, &us)) {
    cell->type = AII_CELL_TIME;
    aii_buf_add(&p->strings, &us, sizeof us);
  }
  cell->u.s.at = (uint32_t)p->strings.len;
  cell->u.s.n = (uint32_t)n;
  aii_buf_add(&p->strings, s, n);
}

static void pack_value(packer *p, uint32_t key, json_t *json)
{
  aii_cell cell = {.key = key, .span = 1};
  uint32_t type;
  double d;
  switch (json_typeof(json)) {
    case JSON_NULL: cell.type = AII_CELL_NULL; break;
    case JSON_FALSE: cell.type = AII_CELL_FALSE; break;
    case JSON_TRUE: cell.type = AII_CELL_TRUE; break;
    case JSON_STRING: pack_string(p, json, &cell); break;
    case JSON_ARRAY:
    case JSON_OBJECT:
      if (p->depth == AII_JSON_MAX_DEPTH) { /* the parser goes no deeper */
        p->failed = true;
        return;
      }
      cell.type = json_is_array(json) ? AII_CELL_ARRAY : AII_CELL_OBJECT;
      cell.u.n = (uint32_t)(json_is_array(json) ? json_array_size(json) : json_object_size(json));
      p->open[p->depth++] = (open_container){json, json_object_iter(json), 0, n_cells(p)};
      break;
    default:
      aii_number_of(json, &type, &cell.u.i, &d);
      cell.type = type & 15;
      if (type == AII_CELL_REAL) cell.u.d = d;
  }
  aii_buf_add(p->cells, &cell, sizeof cell);
}

static void pack_member(packer *p, open_container *in)
{
  const char *name = json_object_iter_key(in->member);
  size_t n = json_object_iter_key_len(in->member);
  json_t *value = json_object_iter_value(in->member);
  uint32_t key = AII_NO_KEY;
  in->member = json_object_iter_next(in->json, in->member);
  if (!p->add) key = aii_keys_find(p->keys, name, n);
  else if (!aii_keys_add(p->keys, name, n, &key)) p->failed = true;
  pack_value(p, key, value);
}

/* The next value of the innermost open container, or its end. */
static void pack_step(packer *p)
{
  open_container *in = &p->open[p->depth - 1];
  if (in->member != NULL) {
    pack_member(p, in);
  } else if (json_is_array(in->json) && in->next < json_array_size(in->json)) {
    pack_value(p, AII_NO_KEY, json_array_get(in->json, in->next++));
  } else {
    cell_at(p, in->cell)->span = (uint32_t)(n_cells(p) - in->cell) & 0xFFFFFFF;
    p->depth--;
  }
}

bool aii_doc_pack(aii_keys *keys, bool add, const json_t *payload, aii_buf *out)
{
  static const char zeros[8];
  packer p; /* its stack is large: not zeroed */
  if (payload == NULL) {
    aii_buf_add(out, &aii_doc_empty, sizeof aii_doc_empty);
    return !out->failed;
  }
  p.keys = keys;
  p.add = add;
  p.failed = false;
  p.cells = out;
  p.first = out->len;
  p.depth = 0;
  aii_buf_init(&p.strings, keys->mem, 0);
  pack_value(&p, AII_NO_KEY, (json_t *)(uintptr_t)payload);
  while (p.depth > 0 && !p.failed && !out->failed && !p.strings.failed) pack_step(&p);
  p.failed |= p.strings.failed;
  if (!p.failed) {
    aii_buf_add(out, p.strings.data, p.strings.len);
    aii_buf_add(out, zeros, (8 - out->len % 8) % 8);
    if (!out->failed) cell_at(&p, 0)->key = (uint32_t)((out->len - p.first) / 8);
  }
  aii_buf_free(&p.strings);
  if (p.failed || out->failed) out->len = p.first;
  return !p.failed && !out->failed;
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

int64_t aii_cell_time(const aii_cell *doc, const aii_cell *cell)
{
  int64_t us;
  memcpy(&us, aii_cell_string(doc, cell) - sizeof us, sizeof us);
  return us;
}

const aii_cell *aii_cell_member(const aii_cell *object, uint32_t key, uint64_t *steps)
{
  if (object->type != AII_CELL_OBJECT || key == AII_NO_KEY) return NULL;
  for
    AII_EACH_CELL(child, object)
    {
      if (*steps == 0) return NULL;
      --*steps;
      if (child->key == key) return child;
    }
  return NULL;
}

void aii_cell_dump(const aii_cell *doc, const aii_cell *cell, aii_buf *json)
{
  switch (cell->type) {
    case AII_CELL_FALSE: aii_buf_str(json, "false"); break;
    case AII_CELL_TRUE: aii_buf_str(json, "true"); break;
    case AII_CELL_INT: aii_buf_fmt(json, "%lld", (long long)cell->u.i); break;
    case AII_CELL_REAL: aii_buf_double(json, cell->u.d, 17); break;
    case AII_CELL_STRING:
    case AII_CELL_TIME: aii_buf_json(json, aii_cell_string(doc, cell), cell->u.s.n); break;
    default: aii_buf_str(json, "null");
  }
}
