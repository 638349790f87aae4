/* care.c - `aiinfra memory ACTION`: what moves, forgets or tidies a scope, from the command line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "facts.h"

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

int do_forget(int argc, char **argv)
{
  target t = NO_TARGET;
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

int do_export(int argc, char **argv)
{
  target t = NO_TARGET;
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

int do_import(int argc, char **argv)
{
  target t = NO_TARGET;
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

int do_consolidate(int argc, char **argv)
{
  target t = NO_TARGET;
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

int do_summarise(int argc, char **argv)
{
  target t = NO_TARGET;
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

int do_block(int argc, char **argv)
{
  target t = NO_TARGET;
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
