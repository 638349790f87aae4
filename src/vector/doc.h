/* src/vector/doc.h - a payload in the form that filters read: typed cells, its keys as numbers, its dates as numbers.
 *
 * A document is one block of memory: cells, then the bytes of its strings. Cell 0 is the payload's object; the cells of
 * a container's members follow it, each with all that lies below it. Numbers that are whole are integers, whatever
 * they were written as, so that equal numbers have equal cells. Documents hold no pointers and may be moved.
 */
#ifndef AII_VECTOR_DOC_H
#define AII_VECTOR_DOC_H

#include "lib/data/data.h"
#include "src/vector/vector.h"

typedef enum aii_cell_type {
  AII_CELL_NULL,
  AII_CELL_FALSE,
  AII_CELL_TRUE,
  AII_CELL_INT,
  AII_CELL_REAL, /* not whole, or beyond 64 bits */
  AII_CELL_STRING,
  AII_CELL_TIME, /* a string that is a date: its microseconds since 1970 lie before its bytes */
  AII_CELL_ARRAY,
  AII_CELL_OBJECT
} aii_cell_type;

typedef struct aii_cell {
  uint32_t
      key; /* of a member; AII_NO_KEY for elements and keys that nobody asks for; cell 0: the document's size / 8 */
  uint32_t type : 4, span : 28; /* span: cells, this one and all below it */
  union {
    int64_t i;
    double d;
    struct {
      uint32_t at, n; /* behind the last cell, bytes */
    } s;
    uint32_t n; /* members or elements */
  } u;
} aii_cell;

/* Iterates over the members of a container. */
#define AII_EACH_CELL(child, parent)                                                                    \
  (const aii_cell *child = (parent) + 1, *child##_end = (parent) + (parent)->span; child < child##_end; \
   child += child->span)

/* A payload of {}. */
extern const aii_cell aii_doc_empty;

static inline size_t aii_doc_bytes(const aii_cell *doc)
{
  return (size_t)doc->key * 8;
}
static inline const char *aii_cell_string(const aii_cell *doc, const aii_cell *cell)
{
  return (const char *)(doc + doc->span) + cell->u.s.at;
}
static inline bool aii_cell_is_string(const aii_cell *cell)
{
  return cell->type == AII_CELL_STRING || cell->type == AII_CELL_TIME;
}
int64_t aii_cell_time(const aii_cell *doc, const aii_cell *cell);
/* The member of an object with this key, or NULL. */
const aii_cell *aii_cell_member(const aii_cell *object, uint32_t key, uint64_t *steps);

/* Appends the document of a payload (an object, or NULL) to a buffer whose length is a multiple of 8, and keeps it
 * one. Keys are added to the dictionary when `add`, else those that are not in it become AII_NO_KEY. false: no memory;
 * the buffer has failed or is as before. */
bool aii_doc_pack(aii_keys *keys, bool add, const json_t *payload, aii_buf *out);
/* A whole number as an integer where 64 bits hold it. */
void aii_number_of(const json_t *number, uint32_t *type, int64_t *i, double *d);
/* Appends the JSON of a cell without keys: scalars alone. */
void aii_cell_dump(const aii_cell *doc, const aii_cell *cell, aii_buf *json);

/* RFC 3339, and its parts: 2020-01-31, 2020-01-31T12:00, 2020-01-31 12:00:00.25+02:00; without a zone UTC. Digits behind
 * the microsecond are dropped. (when.c) */
bool aii_time_parse(const char *s, size_t n, int64_t *us);

#endif
