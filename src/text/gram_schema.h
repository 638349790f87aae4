/* gram_schema.h - a schema on its way to a grammar, shared by gram_schema.c and gram_types.c. */
#ifndef AII_TEXT_GRAM_SCHEMA_H
#define AII_TEXT_GRAM_SCHEMA_H

#include "lib/json/json.h"
#include "src/text/gram_impl.h"

typedef struct aii_gs_item {
  const json_t *schema;
  const char *key; /* in its parent; NULL: the root */
  uint32_t parent, rule;
} aii_gs_item;

typedef struct aii_gschema {
  aii_gb *b;
  const json_t *root;
  const char *what;
  aii_gs_item *items; /* a queue: those before `current` are done */
  size_t n, cap, current;
  aii_map refs; /* rule by the text of $ref */
  bool root_object;
} aii_gschema;

uint32_t aii_gs_fail(aii_gschema *s, aiinfra_status rc, const char *what);
uint32_t aii_gs_add(aii_gschema *s, const json_t *schema, const char *key); /* its rule */
uint32_t aii_gs_object(aii_gschema *s, const json_t *schema);
uint32_t aii_gs_array(aii_gschema *s, const json_t *schema);
uint32_t aii_gs_string(aii_gschema *s, const json_t *schema);
uint32_t aii_gs_number(aii_gschema *s, const json_t *schema, bool integer);

#endif
