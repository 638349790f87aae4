/* main.c - aiinfra, the program: finds the command and hands over. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

typedef struct command {
  const char *name;
  int (*run)(int argc, char **argv);
  const char *summary;
} command;

static int cmd_version(int argc, char **argv);
static int cmd_help(int argc, char **argv);

static const command commands[] = {
    {"agent", cmd_agent, "answer a question from documents, memory and tools"},
    {"ingest", cmd_ingest, "put documents into a database"},
    {"search", cmd_search, "find passages and facts in a database"},
    {"remember", cmd_remember, "keep a fact"},
    {"forget", cmd_forget, "forget a fact or a passage for good"},
    {"memory", cmd_memory, "facts in time: revise, history, export, import"},
    {"migrate", cmd_migrate, "embed a memory with another model"},
    {"import", cmd_import, "put a file of vectors into a collection"},
    {"export", cmd_export, "write a collection of vectors to a file"},
    {"db", cmd_db, "a database file: check, backup, stats, optimise"},
    {"query", cmd_query, "ask a collection of vectors, in JSON"},
    {"copy", cmd_copy, "copy a database: file or PostgreSQL, either way"},
    {"cache", cmd_cache, "the response cache: stats, clear"},
    {"run", cmd_run, "continue a text, or chat"},
    {"serve", cmd_serve, "an OpenAI-compatible HTTP server"},
    {"bench", cmd_bench, "measure a model's speed"},
    {"inspect", cmd_inspect, "what a model file says about itself"},
    {"tokenize", cmd_tokenize, "a text as a model sees it"},
    {"template", cmd_template, "a chat as a model sees it"},
    {"logits", cmd_logits, "what a model expects behind a text"},
    {"perplexity", cmd_perplexity, "how well a model predicts a text"},
    {"kld", cmd_kld, "how far a model is from its parent"},
    {"imatrix", cmd_imatrix, "which columns of a model's weights matter"},
    {"convert", cmd_convert, "write a model of any format as a GGUF file"},
    {"quantize", cmd_quantize, "write a model with smaller weights"},
    {"version", cmd_version, "the library's version"},
    {"help", cmd_help, "this list"},
};
#define N_COMMANDS ((int)(sizeof commands / sizeof commands[0]))

static int cmd_version(int argc, char **argv)
{
  (void)argc, (void)argv;
  printf("aiinfra %s\n", aiinfra_version());
  return CLI_OK;
}

static int cmd_help(int argc, char **argv)
{
  (void)argc, (void)argv;
  printf("usage: aiinfra COMMAND [OPTIONS] [ARGUMENTS]\n\n");
  for (int i = 0; i < N_COMMANDS; i++) { printf("  %-10s %s\n", commands[i].name, commands[i].summary); }
  printf("\n'aiinfra COMMAND --help' tells more about a command.\n");
  return CLI_OK;
}

int main(int argc, char **argv)
{
  const char *names[N_COMMANDS], *near, *word = argc > 1 ? argv[1] : "";
  if (argc < 2) {
    cmd_help(argc, argv);
    return CLI_USAGE;
  }
  signal(SIGPIPE, SIG_IGN); /* a reader that goes away is a failed write */
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) word = "help";
  if (strcmp(word, "--version") == 0) word = "version";
  for (int i = 0; i < N_COMMANDS; i++) {
    names[i] = commands[i].name;
    if (strcmp(word, names[i]) == 0) return commands[i].run(argc - 1, argv + 1);
  }
  near = cli_nearest(word, names, N_COMMANDS);
  if (near != NULL) return cli_usage("", "unknown command '%.60s'; did you mean '%s'?", word, near);
  return cli_usage("", "unknown command '%.60s'", word);
}
