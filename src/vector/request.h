/* src/vector/request.h - what requests of read.c and change.c have in common: {"verb": {"filter": ..., ...}}. */
#ifndef AII_VECTOR_REQUEST_H
#define AII_VECTOR_REQUEST_H

#include "src/vector/vector.h"

typedef struct aii_request {
  aii_mem *mem;
  json_t *source;
  const char *verb;
  const json_t *body;
  char *filter_text; /* NULL: none was given */
  aii_filter *filter;
} aii_request;

/* verbs and, for each, the names its body may have; all lists end with NULL. On failure nothing is held. */
typedef struct aii_verb {
  const char *name;
  const char *const *members;
} aii_verb;
aiinfra_status aii_request_open(aii_mem *mem, const char *json, const aii_verb *verbs, aii_request *r,
                                aiinfra_error *err);
void aii_request_close(aii_request *r);
bool aii_request_is(const aii_request *r, const char *verb);

#endif
