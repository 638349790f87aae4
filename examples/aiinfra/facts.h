/* facts.h - what the actions of `aiinfra memory` share. */
#ifndef AIINFRA_EXAMPLE_FACTS_H
#define AIINFRA_EXAMPLE_FACTS_H

#include "cli.h"

/* Whose memory, in which database: what every action takes. */
typedef struct target {
  const char *db_path;
  aiinfra_memory_opts opts;
  aiinfra_runtime *runtime;
  aiinfra_db *db;
  aiinfra_memory *memory;
} target;

#define NO_TARGET                    \
  {                                  \
    .opts = AIINFRA_MEMORY_OPTS_INIT \
  }

#define TARGET(t)                                                                                    \
  {"db", 0, CLI_TEXT, &(t).db_path, 0, 0, "FILE", "the database"},                                   \
      {"scope", 0, CLI_TEXT, &(t).opts.scope, 0, 0, "NAME", "whose memory (default)"},               \
      {"tenant", 0, CLI_TEXT, &(t).opts.tenant, 0, 0, "NAME", "these names together are the scope"}, \
      {"user", 0, CLI_TEXT, &(t).opts.user, 0, 0, "NAME", "one whose memory it is"},                 \
      {"agent", 0, CLI_TEXT, &(t).opts.agent, 0, 0, "NAME", "the agent that remembers"},             \
  {                                                                                                  \
    "session", 0, CLI_TEXT, &(t).opts.session, 0, 0, "NAME", "the conversation or task"              \
  }

int open_target(const char *command, target *t, bool must_exist);
int close_target(target *t, int code); /* -> code */
bool read_id(const char *command, const char *text, int64_t *id, int *code);
int show_lines(char *text); /* a JSON array, one value a line; frees text */

/* care.c */
int do_forget(int argc, char **argv);
int do_export(int argc, char **argv);
int do_import(int argc, char **argv);
int do_consolidate(int argc, char **argv);
int do_summarise(int argc, char **argv);
int do_block(int argc, char **argv);

#endif
