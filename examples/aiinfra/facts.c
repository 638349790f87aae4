/* facts.c - `aiinfra memory ACTION`: facts in time, a scope moved, forgotten or cared for, from the command line. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* What every action takes. */
typedef struct target {
  const char *db_path;
  aiinfra_memory_opts opts;
  aiinfra_runtime *runtime;
  aiinfra_db *db;
  aiinfra_memory *memory;
} target;

static const target no_target = {.opts = AIINFRA_MEMORY_OPTS_INIT};

#define TARGET(t)                                                                                    \
  {"db", 0, CLI_TEXT, &(t).db_path, 0, 0, "FILE", "the database"},                                   \
      {"scope", 0, CLI_TEXT, &(t).opts.scope, 0, 0, "NAME", "whose memory (default)"},               \
      {"tenant", 0, CLI_TEXT, &(t).opts.tenant, 0, 0, "NAME", "these names together are the scope"}, \
      {"user", 0, CLI_TEXT, &(t).opts.user, 0, 0, "NAME", "one whose memory it is"},                 \
      {"agent", 0, CLI_TEXT, &(t).opts.agent, 0, 0, "NAME", "the agent that remembers"},             \
  {                                                                                                  \
    "session", 0, CLI_TEXT, &(t).opts.session, 0, 0, "NAME", "the conversation or task"              \
  }

static int open_target(const char *command, target *t, bool must_exist)
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

static int close_target(target *t, int code)
{
  aiinfra_memory_free(t->memory);
  aiinfra_db_free(t->db);
  if (t->runtime != NULL) aiinfra_runtime_free(t->runtime);
  return code;
}

static bool read_id(const char *command, const char *text, int64_t *id, int *code)
{
  char *end;
  const char *digits = text[0] == '#' ? text + 1 : text;
  long long value = strtoll(digits, &end, 10);
  *id = value;
  if (end != digits && *end == '\0') return true;
  *code = cli_usage(command, "'%.40s' is no number", text);
  return false;
}

/* A JSON array, one value a line. */
static int show_lines(char *text)
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
  fact f = {.t = no_target, .opts = AIINFRA_FACT_OPTS_INIT};
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
  fact f = {.t = no_target, .opts = AIINFRA_FACT_OPTS_INIT};
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
  target t = no_target;
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
  target t = no_target;
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
  target t = no_target;
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

/* ---- forgetting and moving ------------------------------------------------------------------------------------------------- */

static int forget_some(target *t, const char *command, const char *conversation, char **argv, int n)
{
  aiinfra_error err;
  int64_t id;
  int code = CLI_OK;
  if (conversation != NULL && aiinfra_memory_forget_conversation(t->memory, conversation, &err) != AIINFRA_OK)
    return cli_error(conversation, &err);
  for (int i = 0; i < n && code == CLI_OK; i++) {
    if (!read_id(command, argv[i], &id, &code)) return code;
    if (aiinfra_memory_forget(t->memory, id, &err) != AIINFRA_OK) code = cli_error(argv[i], &err);
  }
  return code;
}

static int do_forget(int argc, char **argv)
{
  target t = no_target;
  const char *conversation = NULL;
  bool everything = false, expired = false;
  const cli_option options[] = {TARGET(t),
                                {"conversation", 0, CLI_TEXT, &conversation, 0, 0, "NAME", "all messages of one"},
                                {"expired", 0, CLI_FLAG, &expired, 0, 0, NULL, "what has outlived its time"},
                                {"everything", 0, CLI_FLAG, &everything, 0, 0, NULL, "the whole scope"},
                                {0}};
  const cli_command command = {"memory forget",
                               "--db FILE [NUMBER...]",
                               "Forgets for good: facts with all of their versions, passages, conversations.",
                               options,
                               0,
                               -1};
  aiinfra_error err;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  if (n == 0 && conversation == NULL && !everything && !expired) return cli_usage(command.name, "nothing is named");
  code = open_target(command.name, &t, true);
  if (code == CLI_OK) code = forget_some(&t, command.name, conversation, argv, n);
  if (code == CLI_OK && expired && aiinfra_memory_expire(t.memory, NULL, &err) != AIINFRA_OK)
    code = cli_error("forget", &err);
  if (code == CLI_OK && everything && aiinfra_memory_forget_all(t.memory, &err) != AIINFRA_OK)
    code = cli_error("forget", &err);
  return close_target(&t, code);
}

static int do_export(int argc, char **argv)
{
  target t = no_target;
  const cli_option options[] = {TARGET(t), {0}};
  const cli_command command = {
      "memory export", "--db FILE", "Prints a scope as JSON lines: facts in all versions, messages, blocks.",
      options,         0,           0};
  aiinfra_error err;
  char *text = NULL;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  code = open_target(command.name, &t, true);
  if (code == CLI_OK && aiinfra_memory_export(t.memory, &text, &err) != AIINFRA_OK) code = cli_error("export", &err);
  if (code == CLI_OK && !cli_write(text, strlen(text))) code = CLI_FAILED;
  aiinfra_string_free(text);
  return close_target(&t, code);
}

static int do_import(int argc, char **argv)
{
  target t = no_target;
  const cli_option options[] = {TARGET(t), {0}};
  const cli_command command = {"memory import",
                               "--db FILE FILE.jsonl",
                               "Takes in what export printed, all or nothing; '-' is standard input.",
                               options,
                               1,
                               1};
  aiinfra_error err;
  uint64_t taken = 0;
  size_t size = 0;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  char *lines = cli_read_file(argv[0], &size);
  if (lines == NULL) return CLI_FAILED;
  code = open_target(command.name, &t, false);
  if (code == CLI_OK && aiinfra_memory_import(t.memory, lines, size, &taken, &err) != AIINFRA_OK)
    code = cli_error(argv[0], &err);
  if (code == CLI_OK) printf("%llu new\n", (unsigned long long)taken);
  free(lines);
  return close_target(&t, code);
}

/* ---- care --------------------------------------------------------------------------------------------------------------------- */

static int show_text(char *text)
{
  if (text != NULL) printf("%s\n", text);
  aiinfra_string_free(text);
  return CLI_OK;
}

static int do_consolidate(int argc, char **argv)
{
  target t = no_target;
  aiinfra_consolidate_opts opts = AIINFRA_CONSOLIDATE_OPTS_INIT;
  int64_t steps = 0, facts = 0;
  bool dry = false, keep = false;
  const cli_option options[] = {
      TARGET(t),
      {"dry-run", 0, CLI_FLAG, &dry, 0, 0, NULL, "only tell what would be done"},
      {"keep-contradictions", 0, CLI_FLAG, &keep, 0, 0, NULL, "tell contradictions, supersede nothing"},
      {"max-facts", 0, CLI_INT, &facts, 0, 1e9, "N", "retire the weakest of more (0: any number)"},
      {"steps", 0, CLI_INT, &steps, 0, 1e9, "N", "look at so many facts (0: all)"},
      {"after", 0, CLI_INT, &opts.after_id, 0, 9e15, "NUMBER", "go on behind this one: 'next' of the last time"},
      {0}};
  const cli_command command = {"memory consolidate",
                               "--db FILE",
                               "Merges facts that say the same, settles contradictions; prints what was done, as JSON.",
                               options,
                               0,
                               0};
  aiinfra_error err;
  char *text = NULL;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  opts.dry_run = dry;
  opts.keep_contradictions = keep;
  opts.max_steps = (uint32_t)steps;
  opts.max_facts = (uint32_t)facts;
  code = open_target(command.name, &t, true);
  if (code == CLI_OK && aiinfra_memory_consolidate(t.memory, &opts, &text, &err) != AIINFRA_OK)
    code = cli_error("consolidate", &err);
  if (code == CLI_OK) code = show_text(text);
  return close_target(&t, code);
}

static int do_summarise(int argc, char **argv)
{
  target t = no_target;
  aiinfra_summarise_opts opts = AIINFRA_SUMMARISE_OPTS_INIT;
  int64_t keep = 12, chunk = 24, bytes = 1024;
  const cli_option options[] = {TARGET(t),
                                {"keep", 0, CLI_INT, &keep, 1, 1e6, "N", "messages at the end without a summary (12)"},
                                {"chunk", 0, CLI_INT, &chunk, 1, 1e6, "N", "messages of one summary (24)"},
                                {"bytes", 0, CLI_INT, &bytes, 64, 16384, "N", "of one summary (1024)"},
                                {0}};
  const cli_command command = {"memory summarise",
                               "--db FILE CONVERSATION",
                               "Summarises what has no summary yet; prints all summaries, one JSON object a line.",
                               options,
                               1,
                               1};
  aiinfra_error err;
  char *text = NULL;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  opts.keep_last = (uint32_t)keep;
  opts.chunk = (uint32_t)chunk;
  opts.max_bytes = (uint32_t)bytes;
  code = open_target(command.name, &t, true);
  if (code == CLI_OK && (aiinfra_memory_summarise(t.memory, argv[0], &opts, NULL, &err) != AIINFRA_OK ||
                         aiinfra_memory_summaries(t.memory, argv[0], &text, &err) != AIINFRA_OK))
    code = cli_error("summarise", &err);
  if (code == CLI_OK) code = show_lines(text);
  return close_target(&t, code);
}

typedef struct block_args {
  const char *description, *find;
  int64_t limit;
  bool read_only, editable, add;
} block_args;

static aiinfra_status change_block(aiinfra_memory *memory, const char *label, const char *text, const block_args *a,
                                   aiinfra_error *err)
{
  aiinfra_block_opts opts = AIINFRA_BLOCK_OPTS_INIT;
  aiinfra_block_edit edit = AIINFRA_BLOCK_EDIT_INIT;
  aiinfra_status rc = AIINFRA_OK;
  opts.description = a->description;
  opts.limit_bytes = (uint32_t)a->limit;
  opts.read_only = a->read_only ? 1 : a->editable ? -1 : 0;
  edit.text = text;
  edit.find = a->find;
  if (a->description != NULL || a->limit != 0 || opts.read_only != 0)
    rc = aiinfra_memory_define_block(memory, label, &opts, err);
  if (rc != AIINFRA_OK || text == NULL) return rc;
  return a->add || a->find != NULL ? aiinfra_memory_edit_block(memory, label, &edit, NULL, err)
                                   : aiinfra_memory_set_block(memory, label, text, err);
}

static int do_block(int argc, char **argv)
{
  target t = no_target;
  block_args a = {0};
  const cli_option options[] = {TARGET(t),
                                {"add", 0, CLI_FLAG, &a.add, 0, 0, NULL, "the text becomes a new last line"},
                                {"find", 0, CLI_TEXT, &a.find, 0, 0, "TEXT", "the text takes the place of this"},
                                {"limit", 0, CLI_INT, &a.limit, 1, 16384, "BYTES", "of its text"},
                                {"description", 0, CLI_TEXT, &a.description, 0, 0, "TEXT", "what belongs into it"},
                                {"read-only", 0, CLI_FLAG, &a.read_only, 0, 0, NULL, "agents must not edit it"},
                                {"editable", 0, CLI_FLAG, &a.editable, 0, 0, NULL, "agents may edit it"},
                                {0}};
  const cli_command command = {"memory block",
                               "--db FILE [LABEL [TEXT]]",
                               "Sets or edits a block of the working memory, \"\" removes it; prints all blocks.",
                               options,
                               0,
                               2};
  aiinfra_error err;
  char *text = NULL;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  code = open_target(command.name, &t, n == 0);
  if (code == CLI_OK && n > 0 && change_block(t.memory, argv[0], n > 1 ? argv[1] : NULL, &a, &err) != AIINFRA_OK)
    code = cli_error(argv[0], &err);
  if (code == CLI_OK && aiinfra_memory_list_blocks(t.memory, &text, &err) != AIINFRA_OK)
    code = cli_error("block", &err);
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
