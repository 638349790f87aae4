/* gram_schema.h - a schema on its way to a grammar, shared by gram_schema.c and gram_types.c. */
#ifndef AII_TEXT_GRAM_SCHEMA_H
#define AII_TEXT_GRAM_SCHEMA_H

#include "lib/json/json.h"
#include "src/text/gram_impl.h"
#include "src/text/output_impl.h"
#include "src/text/schema.h"

typedef struct aii_gs_item {
  const json_t *schema;
  const char *key; /* in its parent; NULL: the root */
  uint32_t parent, rule;
  bool raw; /* a value between tags, with the text that ends it */
} aii_gs_item;

typedef struct aii_gschema {
  aii_gb *b;
  const json_t *root;
  const char *what;
  aii_gs_item *items; /* a queue: those before `current` are done */
  size_t n, cap, current;
  aii_map refs; /* rule by the text of $ref */
  bool root_object;
  const aii_out_format *format; /* the root is a call's arguments, as this format writes them; NULL: JSON */
} aii_gschema;

typedef struct aii_gs_member {
  const char *key;
  uint32_t rule; /* of the value */
  bool required;
} aii_gs_member;

typedef struct aii_gs_members {
  aii_gs_member *items;
  size_t n, cap;
} aii_gs_members;

uint32_t aii_gs_fail(aii_gschema *s, aiinfra_status rc, const char *what);
uint32_t aii_gs_add(aii_gschema *s, const json_t *schema, const char *key);     /* its rule */
uint32_t aii_gs_add_raw(aii_gschema *s, const json_t *schema, const char *key); /* the same, as a value between tags */
uint32_t aii_gs_typed(aii_gschema *s, const json_t *schema, const char *type);
bool aii_gs_alone(aii_gschema *s, const json_t *schema, const char *keyword); /* nothing else applies */
const json_t *aii_gs_follow(aii_gschema *s, const json_t *schema); /* behind references; NULL: the failure is set */
bool aii_gs_type_allows(const json_t *type, const json_t *value);
bool aii_gs_check(aii_gschema *s, const json_t *schema); /* its keywords are known */
bool aii_gs_is_free(const json_t *schema);               /* annotations only */
bool aii_gs_is_open(const json_t *schema);               /* members that it does not name */
bool aii_gs_collect(aii_gschema *s, const json_t *schema, bool raw, aii_gs_members *m); /* frees m->items: the caller */
uint32_t aii_gs_object(aii_gschema *s, const json_t *schema);
uint32_t aii_gs_array(aii_gschema *s, const json_t *schema);
uint32_t aii_gs_string(aii_gschema *s, const json_t *schema);
uint32_t aii_gs_keywords(aii_gschema *s, const json_t *schema); /* (key=value, ...) */
/* What stands in a string that is bounded or has a pattern, before next; NONE: any text. */
uint32_t aii_gs_characters(aii_gschema *s, const json_t *schema, uint32_t next);
uint32_t aii_gs_number(aii_gschema *s, const json_t *schema, bool integer);

/* Arguments that are no JSON as a whole (gram_tags.c). */
uint32_t aii_gs_arguments(aii_gschema *s, const json_t *schema);
uint32_t aii_gs_raw(aii_gschema *s, const aii_gs_item *item);

#endif
