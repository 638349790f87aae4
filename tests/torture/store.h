/* tests/torture/store.h - a database with a memory in it, for scenarios that tell it things. */
#ifndef AIINFRA_TESTS_TORTURE_STORE_H
#define AIINFRA_TESTS_TORTURE_STORE_H

#include <unistd.h>

#include "tests/torture/scene.h"

typedef struct store {
  aiinfra_runtime *runtime;
  aiinfra_db *db;
  aiinfra_memory *memory, *other;
  aiinfra_cache *cache;
} store;

static inline aiinfra_memory *open_memory(aiinfra_db *db, const char *user, aiinfra_status *rc)
{
  aiinfra_memory_opts opts = AIINFRA_MEMORY_OPTS_INIT;
  aiinfra_memory *memory = NULL;
  opts.user = user;
  *rc = torture_made(aiinfra_memory_open(db, &opts, &memory, NULL), &memory, "memory_open");
  return memory;
}

static inline aiinfra_status open_store(store *s, const char *path)
{
  aiinfra_status rc;
  memset(s, 0, sizeof *s);
  torture_pause("runtime and database");
  rc = scene_runtime(&s->runtime);
  if (rc == AIINFRA_OK) rc = aiinfra_db_open(s->runtime, path, NULL, &s->db, NULL);
  torture_resume();
  if (rc == AIINFRA_OK) s->memory = open_memory(s->db, "ann", &rc);
  return rc;
}

static inline void close_store(store *s)
{
  aiinfra_cache_free(s->cache);
  aiinfra_memory_free(s->memory);
  aiinfra_memory_free(s->other);
  aiinfra_db_free(s->db);
  aiinfra_runtime_free(s->runtime);
}

/* What a call gave must be the whole of it: `word` is in it. */
static inline aiinfra_status told(aiinfra_status rc, char **text, const char *word)
{
  if (rc == AIINFRA_OK && word != NULL) torture_check(strstr(*text, word) != NULL, word);
  if (rc != AIINFRA_OK) torture_check(*text == NULL, "no text on failure");
  aiinfra_string_free(*text);
  *text = NULL;
  return rc;
}

static inline void remove_files(const char *path)
{
  static const char *const endings[] = {"", "-wal", "-shm"};
  char name[600];
  for (size_t i = 0; i < 3; i++) {
    snprintf(name, sizeof name, "%s%s", path, endings[i]);
    unlink(name);
  }
}

#endif
