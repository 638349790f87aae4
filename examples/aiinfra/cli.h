/* cli.h - what the commands of aiinfra share: options, errors, interrupts, and opening a model to run.
 *
 * Exit codes: 0 it worked, 1 it did not, 2 it was called wrongly. Results go to stdout, all else to stderr.
 */
#ifndef AIINFRA_CLI_H
#define AIINFRA_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "aiinfra.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* ---- options (options.c) ----------------------------------------------------------------------------------------- */

/* CLI_MAYBE: a text that only --name=TEXT gives; --name alone is "". */
typedef enum cli_kind { CLI_FLAG, CLI_TEXT, CLI_MAYBE, CLI_INT, CLI_REAL } cli_kind;

typedef struct cli_option {
  const char *name; /* without "--" */
  char letter;      /* 0: none */
  cli_kind kind;
  void *value;          /* bool, const char *, int64_t or double; keeps its default when not given */
  double least, most;   /* of CLI_INT and CLI_REAL */
  const char *argument; /* "N", "FILE"... of all but CLI_FLAG */
  const char *help;
} cli_option;

typedef struct cli_command {
  const char *name, *arguments, *summary;
  const cli_option *options; /* ends with one without a name */
  int least, most;           /* positional arguments; most < 0: any number */
} cli_command;

/* Parses argv behind the command's name. Positional arguments move to the front of argv; *n says how many. Returns
 * true to go on; else *code is what to exit with (help was shown, or an error was told). */
bool cli_parse(const cli_command *command, int argc, char **argv, int *n, int *code);
/* The candidate that `word` was probably meant to be; NULL: none is near. */
const char *cli_nearest(const char *word, const char *const *candidates, int n);

/* ---- telling (cli.c) ---------------------------------------------------------------------------------------------- */

void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2))); /* a line on stderr */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2))); /* "aiinfra: ...", returns CLI_FAILED */
int cli_error(const char *what, const aiinfra_error *err);                   /* "aiinfra: what: message" */
int cli_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool cli_progress_wanted(void); /* stderr is a terminal */
/* More of what the model thinks, on stderr, dim on a terminal; text NULL: it has ended. *open starts as false. */
void cli_reasoning(bool *open, const char *text, size_t n);
bool cli_write(const char *text, size_t n); /* to stdout, at once; false: nobody reads it any more */

/* ---- interrupts (cli.c) -------------------------------------------------------------------------------------------- */

/* From here Ctrl-C is ours: the first cancels what cli_watch() was told, or sets cli_interrupted(); the second, or one
 * while nothing is watched, quits. Call it before the runtime makes threads. */
void cli_catch_interrupts(void);
void cli_watch(aiinfra_request *request, aiinfra_runtime *runtime); /* either may be NULL; both: watch nothing */
void cli_watch_flag(void);                                          /* only cli_interrupted() is looked at */
bool cli_interrupted(void);
/* Waits for the request, which Ctrl-C cancels, and frees it. Its own callback has the message of a failure. */
aiinfra_status cli_wait(aiinfra_request *request);

/* ---- a model to run (cli.c) ----------------------------------------------------------------------------------------- */

typedef struct cli_engine {
  aiinfra_runtime *runtime;
  aiinfra_model *model;
  aiinfra_kv *kv;
  aiinfra_batcher *batcher;
} cli_engine;

/* Among the options of a command that opens a model: where its packed weights are kept. */
#define CLI_PACKED                                                                                        \
  {                                                                                                       \
    "packed", 0, CLI_MAYBE, &cli_packed, 0, 0, "[=FILE]", "keep packed weights: the next start is faster" \
  }
extern const char *cli_packed;
/* The same commands: whether activations may be rounded. */
#define CLI_BF16                                                        \
  {                                                                     \
    "bf16-activations", 0, CLI_FLAG, &cli_bf16_activations, 0, 0, NULL, \
        "round activations to BF16 for BF16 weights, if that is faster" \
  }
extern bool cli_bf16_activations;
/* The same commands: where the model computes. */
#define CLI_DEVICE                                                                                                \
  {                                                                                                               \
    "device", 0, CLI_TEXT, &cli_device, 0, 0, "DEVICE", "where the model computes: cpu, auto, cuda, cuda:N (cpu)" \
  }
extern const char *cli_device;
/* The same commands: whether mpirun started several processes of this one. */
#define CLI_RANKS                                                                                   \
  {                                                                                                 \
    "ranks", 0, CLI_TEXT, &cli_ranks, 0, 0, "mpi", "each process of mpirun has a part of the model" \
  }
extern const char *cli_ranks;
/* An aiinfra_isa for the runtimes that are opened from now on; 0: the best. */
extern int32_t cli_isa;

int cli_runtime_open(int64_t threads, aiinfra_runtime **out);
/* Only the runtime and the model; kv and batcher stay NULL. */
int cli_model_open(const char *path, int64_t threads, cli_engine *engine);
/* An option of commands that have a KV cache: a variable of const char *, for cli_kv_type(). */
#define CLI_KV_TYPE(variable)                                                                                      \
  {                                                                                                                \
    "kv-type", 0, CLI_TEXT, &(variable), 0, 0, "TYPE", "of the KV cache: f32, f16, q8_0; without it: as the model" \
  }
/* The same commands: how large it is, where evicted blocks go, and what keeps it for the next start. */
#define CLI_KV_SIZES                                                                                             \
  {"kv-size", 0, CLI_INT, &cli_kv_mib, 0, 1 << 24, "MIB", "of the KV cache; 0: room for 4 sequences"},           \
      {"kv-spill", 0, CLI_INT, &cli_kv_spill_mib, 0, 1 << 24, "MIB", "keep that much of what leaves the cache"}, \
      {"kv-spill-dir", 0, CLI_TEXT, &cli_kv_spill_dir, 0, 0, "DIR", "in a file there; without it in memory"},    \
  {                                                                                                              \
    "kv-file", 0, CLI_TEXT, &cli_kv_file, 0, 0, "FILE", "the cache is loaded from it, and saved at the end"      \
  }
extern int64_t cli_kv_mib, cli_kv_spill_mib;
extern const char *cli_kv_spill_dir, *cli_kv_file;
/* An aiinfra_dtype of that name, 0 for NULL; false after telling that there is none. */
bool cli_kv_type(const char *name, int32_t *dtype);
/* Opens everything from the file to the batcher; a code other than CLI_OK was told. kv_type and opts may be NULL. */
int cli_engine_open(const char *model, int64_t threads, const char *kv_type, const aiinfra_batcher_opts *opts,
                    cli_engine *engine);
void cli_engine_close(cli_engine *engine);
/* `given`, or AIINFRA_MODEL, or the nano.gguf that lies beside this program; NULL after telling that there is none. */
const char *cli_default_model(const char *given);

/* A database, and the memory of a scope in it; memory may be NULL. */
int cli_db_open(aiinfra_runtime *runtime, const char *path, bool must_exist, const char *scope, aiinfra_db **db,
                aiinfra_memory **memory);

/* ---- texts and tokens (text.c) --------------------------------------------------------------------------------------- */

/* What is in a file, or in stdin for "-"; a NUL behind it. free() it. NULL after telling why. */
char *cli_read_file(const char *path, size_t *n);
/* The tokens of a text; free() them. NULL after telling why. flags: aiinfra_tokenize_flags. */
aiinfra_token *cli_tokenize(const aiinfra_model *model, const char *text, size_t n_bytes, uint32_t flags, size_t *n);
/* Numbers with commas between; free() them. NULL after telling why. */
aiinfra_token *cli_parse_tokens(const char *command, const char *list, size_t *n);
/* A token's text to stdout, in quotes, unprintable bytes escaped. */
int cli_print_token(const aiinfra_model *model, aiinfra_token token);
/* {"id", "text"}; {"id", "text": null, "bytes"} for half of a character. NULL after telling why. */
json_t *cli_token_json(const aiinfra_model *model, aiinfra_token token);
/* Writes a value and a line end to stdout, and drops it. */
int cli_print_json(json_t *value, size_t flags);

/* ---- the commands --------------------------------------------------------------------------------------------------- */

int cmd_agent(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_cache(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_db(int argc, char **argv);
int cmd_copy(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_forget(int argc, char **argv);
int cmd_imatrix(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_ingest(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_kld(int argc, char **argv);
int cmd_logits(int argc, char **argv);
int cmd_memory(int argc, char **argv);
int cmd_migrate(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_quantize(int argc, char **argv);
int cmd_query(int argc, char **argv);
int cmd_remember(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_search(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_template(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);

#endif
