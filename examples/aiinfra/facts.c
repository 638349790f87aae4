/* facts.c - `aiinfra memory ACTION`: facts in time, from the command line. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "facts.h"

int open_target(const char *command, target *t, bool must_exist)
{
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  aiinfra_error err;
  int code;
  if (t->db_path == NULL) return cli_usage(command, "--db FILE is missing");
  opts.must_exist = must_exist;
  code = cli_runtime_open(1, &t->runtime);
  if (code != CLI_OK) return code;
  if (aiinfra_db_open(t->runtime, t->db_path, &opts, &t->db, &err) != AIINFRA_OK) return cli_error(t->db_path, &err);
  if (aiinfra_memory_open(t->db, &t->opts, &t->memory, &err) != AIINFRA_OK) return cli_error(t->db_path, &err);
  return CLI_OK;
}

int close_target(target *t, int code)
{
  aiinfra_memory_free(t->memory);
  aiinfra_db_free(t->db);
  if (t->runtime != NULL) aiinfra_runtime_free(t->runtime);
  return code;
}

bool read_id(const char *command, const char *text, int64_t *id, int *code)
{
  char *end;
  const char *digits = text[0] == '#' ? text + 1 : text;
  long long value = strtoll(digits, &end, 10);
  *id = value;
  if (end != digits && *end == '\0') return true;
  *code = cli_usage(command, "'%.40s' is no number", text);
  return false;
}

int show_lines(char *text)
{
  json_t *items = json_loads(text, 0, NULL), *item;
  size_t i;
  aiinfra_string_free(text);
  if (items == NULL) return cli_fail("out of memory");
  json_array_foreach(items, i, item)
  {
    char *line = json_dumps(item, JSON_COMPACT);
    if (line == NULL) break;
    printf("%s\n", line);
    free(line);
  }
  json_decref(items);
  return CLI_OK;
}

/* ---- remember, revise, supersede -------------------------------------------------------------------------------------- */

typedef struct fact {
  target t;
  aiinfra_fact_opts opts;
  double importance, trust, ttl_days;
  int64_t valid_from, valid_to;
} fact;

#define FACT(f)                                                                                                 \
  TARGET((f).t), {"source", 0, CLI_TEXT, &(f).opts.source, 0, 0, "TEXT", "who said so"},                        \
      {"importance", 0, CLI_REAL, &(f).importance, 0, 1, "X", "0 to 1 (0.5)"},                                  \
      {"trust", 0, CLI_REAL, &(f).trust, 0, 1, "X", "0 to 1 (1)"},                                              \
      {"ttl-days", 0, CLI_REAL, &(f).ttl_days, 0, 36500, "N", "forgotten after so many days"},                  \
      {"valid-from", 0, CLI_INT, &(f).valid_from, 0, 9e15, "MS", "holds since, milliseconds since 1970 (now)"}, \
      {"valid-to", 0, CLI_INT, &(f).valid_to, 0, 9e15, "MS", "holds until (open)"},                             \
  {                                                                                                             \
    "metadata", 0, CLI_TEXT, &(f).opts.metadata_json, 0, 0, "JSON", "an object kept with it"                    \
  }

static void take_numbers(fact *f)
{
  f->opts.importance = (float)f->importance;
  f->opts.trust = (float)f->trust;
  f->opts.ttl_ms = (int64_t)(f->ttl_days * 86400000);
  f->opts.valid_from_ms = f->valid_from;
  f->opts.valid_to_ms = f->valid_to;
}

static int do_remember(int argc, char **argv)
{
  fact f = {.t = NO_TARGET, .opts = AIINFRA_FACT_OPTS_INIT};
  const cli_option options[] = {FACT(f), {0}};
  const cli_command command = {
      "memory remember",
      "--db FILE TEXT",
      "Keeps a fact; prints its number, and whether it is new, the same, or near: said before in other words.",
      options,
      1,
      1};
  aiinfra_error err;
  char *text = NULL;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  take_numbers(&f);
  code = open_target(command.name, &f.t, false);
  if (code == CLI_OK && aiinfra_memory_add_fact(f.t.memory, argv[0], &f.opts, &text, &err) != AIINFRA_OK)
    code = cli_error("remember", &err);
  if (code == CLI_OK) printf("%s\n", text);
  aiinfra_string_free(text);
  return close_target(&f.t, code);
}

static int replace(int argc, char **argv, bool supersede)
{
  fact f = {.t = NO_TARGET, .opts = AIINFRA_FACT_OPTS_INIT};
  const cli_option options[] = {FACT(f), {0}};
  const cli_command revise = {"memory revise",
                              "--db FILE NUMBER TEXT",
                              "Corrects a fact that was wrong. The old version is kept.",
                              options,
                              2,
                              2};
  const cli_command end = {"memory supersede",
                           "--db FILE NUMBER [TEXT]",
                           "A fact no longer holds, since --valid-from; the text holds now. The old version is kept.",
                           options,
                           1,
                           2};
  const cli_command *command = supersede ? &end : &revise;
  aiinfra_error err;
  aiinfra_status rc = AIINFRA_OK;
  int64_t id, made = 0;
  int n, code;
  if (!cli_parse(command, argc, argv, &n, &code)) return code;
  if (!read_id(command->name, argv[0], &id, &code)) return code;
  take_numbers(&f);
  code = open_target(command->name, &f.t, true);
  if (code == CLI_OK) {
    const char *text = n > 1 ? argv[1] : NULL;
    rc = supersede ? aiinfra_memory_supersede(f.t.memory, id, text, &f.opts, &made, &err)
                   : aiinfra_memory_revise(f.t.memory, id, text, &f.opts, &made, &err);
  }
  if (rc != AIINFRA_OK) code = cli_error(argv[0], &err);
  else if (code == CLI_OK && made != 0) printf("%lld\n", (long long)made);
  return close_target(&f.t, code);
}

static int do_revise(int argc, char **argv)
{
  return replace(argc, argv, false);
}

static int do_supersede(int argc, char **argv)
{
  return replace(argc, argv, true);
}

/* ---- reading ------------------------------------------------------------------------------------------------------------- */

#define TIMES(o)                                                                                        \
  {"as-of", 0, CLI_INT, &(o).as_of_ms, 0, 9e15, "MS", "what held then, milliseconds since 1970 (now)"}, \
  {                                                                                                     \
    "known-at", 0, CLI_INT, &(o).known_at_ms, 0, 9e15, "MS", "as it was believed then (now)"            \
  }

static int do_recall(int argc, char **argv)
{
  target t = NO_TARGET;
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  int64_t k = 5;
  const cli_option options[] = {TARGET(t), {"k", 'k', CLI_INT, &k, 1, 1000, "N", "hits at most (5)"}, TIMES(opts), {0}};
  const cli_command command = {"memory recall",
                               "--db FILE QUERY",
                               "Finds what fits a question best; one JSON object a line, with all of its scores.",
                               options,
                               1,
                               1};
  aiinfra_error err;
  char *text = NULL;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  code = open_target(command.name, &t, true);
  opts.k = (uint32_t)k;
  if (code == CLI_OK && aiinfra_memory_recall(t.memory, argv[0], &opts, &text, &err) != AIINFRA_OK)
    code = cli_error("recall", &err);
  if (code == CLI_OK) code = show_lines(text);
  return close_target(&t, code);
}

static int do_list(int argc, char **argv)
{
  target t = NO_TARGET;
  aiinfra_facts_opts opts = AIINFRA_FACTS_OPTS_INIT;
  int64_t limit = 1000;
  bool all = false;
  const cli_option options[] = {TARGET(t),
                                {"limit", 0, CLI_INT, &limit, 1, 100000, "N", "facts at most (1000)"},
                                {"after", 0, CLI_INT, &opts.after_id, 0, 9e15, "NUMBER", "those behind this one"},
                                {"all", 0, CLI_FLAG, &all, 0, 0, NULL, "all versions, also what no longer holds"},
                                TIMES(opts),
                                {0}};
  const cli_command command = {"memory list", "--db FILE", "Prints facts, one JSON object a line.", options, 0, 0};
  aiinfra_error err;
  char *text = NULL;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  code = open_target(command.name, &t, true);
  opts.limit = (uint32_t)limit;
  opts.all = all;
  if (code == CLI_OK && aiinfra_memory_facts(t.memory, &opts, &text, &err) != AIINFRA_OK)
    code = cli_error("list", &err);
  if (code == CLI_OK) code = show_lines(text);
  return close_target(&t, code);
}

static int do_history(int argc, char **argv)
{
  target t = NO_TARGET;
  const cli_option options[] = {TARGET(t), {0}};
  const cli_command command = {
      "memory history", "--db FILE NUMBER", "Prints all versions of a fact, one JSON object a line.", options, 1, 1};
  aiinfra_error err;
  char *text = NULL;
  int64_t id;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  if (!read_id(command.name, argv[0], &id, &code)) return code;
  code = open_target(command.name, &t, true);
  if (code == CLI_OK && aiinfra_memory_fact_history(t.memory, id, &text, &err) != AIINFRA_OK)
    code = cli_error(argv[0], &err);
  if (code == CLI_OK) code = show_lines(text);
  return close_target(&t, code);
}

/* ---- the actions ------------------------------------------------------------------------------------------------------------ */

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
  const char *summary;
} actions[] = {
    {"remember", do_remember, "keep a fact"},
    {"recall", do_recall, "find what fits a question"},
    {"list", do_list, "facts that hold, now or at a time"},
    {"history", do_history, "all versions of a fact"},
    {"revise", do_revise, "correct a fact that was wrong"},
    {"supersede", do_supersede, "a fact no longer holds, another does"},
    {"forget", do_forget, "forget for good"},
    {"export", do_export, "a scope as JSON lines"},
    {"import", do_import, "JSON lines into a scope"},
    {"consolidate", do_consolidate, "merge what says the same, settle contradictions"},
    {"summarise", do_summarise, "a conversation in short"},
    {"block", do_block, "the working memory"},
};
#define N_ACTIONS ((int)(sizeof actions / sizeof actions[0]))

int cmd_memory(int argc, char **argv)
{
  const char *names[N_ACTIONS], *near, *word = argc > 1 ? argv[1] : "";
  if (argc < 2 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
    FILE *to = argc < 2 ? stderr : stdout;
    fprintf(to, "usage: aiinfra memory ACTION --db FILE [OPTIONS] [ARGUMENTS]\n\n");
    for (int i = 0; i < N_ACTIONS; i++) fprintf(to, "  %-11s %s\n", actions[i].name, actions[i].summary);
    fprintf(to, "\n'aiinfra memory ACTION --help' tells more about an action.\n");
    return argc < 2 ? CLI_USAGE : CLI_OK;
  }
  for (int i = 0; i < N_ACTIONS; i++) {
    names[i] = actions[i].name;
    if (strcmp(word, names[i]) == 0) return actions[i].run(argc - 1, argv + 1);
  }
  near = cli_nearest(word, names, N_ACTIONS);
  if (near != NULL) return cli_usage("memory", "unknown action '%.60s'; did you mean '%s'?", word, near);
  return cli_usage("memory", "unknown action '%.60s'", word);
}
