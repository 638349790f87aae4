/* schema.h - what a JSON Schema says plainly: where a reference leads, and which types a value may have.
 *
 * The grammar of a tool call and the parser of what the model wrote must agree on this: a value that stands as bare
 * text is a string or a number by its schema alone.
 */
#ifndef AII_TEXT_SCHEMA_H
#define AII_TEXT_SCHEMA_H

#include "lib/json/json.h"

enum {
  AII_TYPE_STRING = 1,
  AII_TYPE_NUMBER = 2,
  AII_TYPE_BOOLEAN = 4,
  AII_TYPE_NULL = 8,
  AII_TYPE_OBJECT = 16,
  AII_TYPE_ARRAY = 32,
  AII_TYPE_ANY = 63
};
enum { AII_SCHEMA_HOPS = 8, AII_SCHEMA_UNIONS = 4 }; /* references behind references, unions within unions */

unsigned aii_type_of(const json_t *value);
unsigned aii_type_named(const char *name); /* 0: no such type */
/* The type's name that the keywords of a schema without "type" mean; NULL: none. */
const char *aii_schema_inferred(const json_t *schema);
/* Follows "#/a/b" from the root; ~1 is "/", ~0 is "~". NULL: it leads nowhere. */
const json_t *aii_schema_resolve(const json_t *root, const char *ref);
/* Behind $ref and allOf of one; NULL: the reference leads nowhere. */
const json_t *aii_schema_follow(const json_t *root, const json_t *schema);
/* The branches of anyOf or oneOf; NULL: it is no union. */
const json_t *aii_schema_union(const json_t *schema);
/* The types that a schema allows, as far as it says so plainly; else ANY. */
unsigned aii_schema_types(const json_t *root, const json_t *schema);

#endif
