/* facts.h - what the tests of facts share: a runtime, a database, memories in it, answers as JSON. */
#ifndef AIINFRA_TESTS_API_FACTS_H
#define AIINFRA_TESTS_API_FACTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>

#include "aiinfra/memory.h"
#include "support/support.h"

static aiinfra_runtime *rt;
static aiinfra_db *db;
static aiinfra_error err;

static inline void must(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
}

static inline aiinfra_memory *must_open(const char *scope)
{
  aiinfra_memory_opts opts = AIINFRA_MEMORY_OPTS_INIT;
  aiinfra_memory *memory;
  opts.scope = scope;
  must(aiinfra_memory_open(db, &opts, &memory, &err));
  return memory;
}

static inline json_t *parse(char *text)
{
  json_t *value = json_loads(text, 0, NULL);
  if (value == NULL) fail_msg("no JSON: %s", text);
  aiinfra_string_free(text);
  return value;
}

#endif
