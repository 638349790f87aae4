/* cli.c - messages, Ctrl-C, and the way from a file's name to a running batcher. */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- telling ---------------------------------------------------------------------------------------------------------- */

void cli_say(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
}

int cli_fail(const char *format, ...)
{
  va_list args;
  fputs("aiinfra: ", stderr);
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  return CLI_FAILED;
}

/* The address of a server's database is told without its user and password, and without what follows its name. */
static int tell_of_server(const char *uri, const aiinfra_error *err)
{
  const char *start = strstr(uri, "://") + 3, *at = strrchr(uri, '@');
  size_t scheme = (size_t)(start - uri);
  if (at != NULL && at > start) start = at + 1;
  return cli_fail("%.*s%.*s: %s", (int)scheme, uri, (int)strcspn(start, "?"), start, err->message);
}

int cli_error(const char *what, const aiinfra_error *err)
{
  if (strncmp(what, "postgres", 8) == 0 && strstr(what, "://") != NULL) return tell_of_server(what, err);
  return cli_fail("%s: %s", what, err->message);
}

int cli_usage(const char *command, const char *format, ...)
{
  va_list args;
  fprintf(stderr, "aiinfra%s%s: ", command[0] != '\0' ? " " : "", command);
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fprintf(stderr, "\n'aiinfra %s%s--help' tells more.\n", command, command[0] != '\0' ? " " : "");
  return CLI_USAGE;
}

bool cli_progress_wanted(void)
{
  return isatty(STDERR_FILENO) == 1;
}

void cli_reasoning(bool *open, const char *text, size_t n)
{
  bool dim = cli_progress_wanted();
  if (text == NULL && *open) {
    fputs(dim ? "\033[0m\n" : "\n", stderr);
    *open = false;
  } else if (text != NULL && n > 0) {
    if (!*open && dim) fputs("\033[2m", stderr);
    fwrite(text, 1, n, stderr);
    *open = true;
  }
  fflush(stderr);
}

bool cli_write(const char *text, size_t n)
{
  return fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0;
}

/* ---- interrupts --------------------------------------------------------------------------------------------------------- */

static struct {
  pthread_mutex_t lock;
  aiinfra_request *request;
  aiinfra_runtime *runtime;
  bool flag, interrupted;
} watch = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* A thread of its own, because almost nothing may be done in a signal handler. */
static void *wait_for_interrupts(void *arg)
{
  sigset_t set;
  int sig;
  (void)arg;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  while (sigwait(&set, &sig) == 0) {
    bool heard;
    pthread_mutex_lock(&watch.lock);
    heard = !watch.interrupted && (watch.request != NULL || watch.runtime != NULL || watch.flag);
    watch.interrupted = true;
    if (heard && watch.request != NULL) aiinfra_request_cancel(watch.request);
    if (heard && watch.runtime != NULL) aiinfra_runtime_stop(watch.runtime);
    pthread_mutex_unlock(&watch.lock);
    if (!heard) _exit(128 + sig);
  }
  return NULL;
}

void cli_catch_interrupts(void)
{
  sigset_t set;
  pthread_t thread;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, NULL); /* inherited by all threads */
  if (pthread_create(&thread, NULL, wait_for_interrupts, NULL) == 0) pthread_detach(thread);
  else pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void cli_watch(aiinfra_request *request, aiinfra_runtime *runtime)
{
  pthread_mutex_lock(&watch.lock);
  watch.request = request;
  watch.runtime = runtime;
  watch.flag = false;
  pthread_mutex_unlock(&watch.lock);
}

void cli_watch_flag(void)
{
  pthread_mutex_lock(&watch.lock);
  watch.flag = true;
  pthread_mutex_unlock(&watch.lock);
}

bool cli_interrupted(void)
{
  bool interrupted;
  pthread_mutex_lock(&watch.lock);
  interrupted = watch.interrupted;
  pthread_mutex_unlock(&watch.lock);
  return interrupted;
}

aiinfra_status cli_wait(aiinfra_request *request)
{
  aiinfra_status rc;
  cli_watch(request, NULL);
  rc = aiinfra_request_wait(request, -1, NULL);
  cli_watch(NULL, NULL);
  aiinfra_request_free(request);
  return rc;
}

/* ---- a model to run ------------------------------------------------------------------------------------------------------- */

static void log_line(void *user, aiinfra_log_level level, const char *message)
{
  (void)user;
  if (level <= AIINFRA_LOG_WARN) cli_say("aiinfra: %s", message);
}

const char *cli_packed;
bool cli_bf16_activations;
int32_t cli_isa;
int64_t cli_kv_mib, cli_kv_spill_mib;
const char *cli_kv_spill_dir, *cli_kv_file;
const char *cli_device, *cli_ranks;

/* "cpu", "auto", "cuda", "cuda:1". */
static bool choose_device(const char *name, aiinfra_runtime_opts *opts)
{
  char *end = NULL;
  if (name == NULL || strcmp(name, "cpu") == 0) return true;
  if (strcmp(name, "auto") == 0) {
    opts->device = AIINFRA_DEVICE_AUTO;
    return true;
  }
  if (strncmp(name, "cuda", 4) != 0 || (name[4] != '\0' && name[4] != ':')) return false;
  opts->device = AIINFRA_DEVICE_CUDA;
  if (name[4] == '\0') return true;
  opts->device_index = (int32_t)strtol(name + 5, &end, 10);
  return end != name + 5 && *end == '\0';
}

int cli_runtime_open(int64_t threads, aiinfra_runtime **out)
{
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_error err;
  opts.n_threads = (int32_t)threads;
  opts.isa = cli_isa;
  opts.log = log_line;
  opts.cuda_path = getenv("AIINFRA_CUDA_PLUGIN");
  if (!choose_device(cli_device, &opts)) {
    cli_say("aiinfra: --device '%s': it may be cpu, auto, cuda or cuda:N", cli_device);
    return CLI_USAGE;
  }
  opts.ranks_path = getenv("AIINFRA_MPI_PLUGIN");
  if (cli_ranks != NULL && strcmp(cli_ranks, "mpi") != 0) {
    cli_say("aiinfra: --ranks '%s': it may be mpi", cli_ranks);
    return CLI_USAGE;
  }
  opts.ranks = cli_ranks != NULL ? AIINFRA_RANKS_MPI : AIINFRA_RANKS_NONE;
  return aiinfra_runtime_create(&opts, out, &err) == AIINFRA_OK ? CLI_OK : cli_error("runtime", &err);
}

static int show_loading(void *user, double fraction)
{
  (void)user;
  if (cli_progress_wanted()) fprintf(stderr, fraction < 1 ? "\rloading %3.0f %%" : "\r             \r", fraction * 100);
  return 0;
}

/* A rank other than 0 does as it is told until the first one is done: the program then ends here. */
static void follow(cli_engine *e)
{
  uint32_t rank = 0, n_ranks = 1;
  aiinfra_error err;
  int code = CLI_OK;
  if (aiinfra_runtime_rank(e->runtime, &rank, &n_ranks, &err) != AIINFRA_OK || rank == 0) return;
  if (aiinfra_model_follow(e->model, &err) != AIINFRA_OK) code = cli_error("ranks", &err);
  cli_engine_close(e);
  exit(code);
}

int cli_model_open(const char *path, int64_t threads, cli_engine *e)
{
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_error err;
  int code;
  memset(e, 0, sizeof *e);
  code = cli_runtime_open(threads, &e->runtime);
  if (code != CLI_OK) return code;
  opts.progress = show_loading;
  opts.packed_path = cli_packed;
  opts.bf16_activations = cli_bf16_activations;
  if (aiinfra_model_open(e->runtime, path, &opts, &e->model, &err) != AIINFRA_OK) {
    code = cli_error(path, &err);
    cli_engine_close(e);
    return code;
  }
  follow(e);
  return CLI_OK;
}

bool cli_kv_type(const char *name, int32_t *dtype)
{
  static const char *const names[] = {"f32", "f16", "q8_0"};
  static const int32_t types[] = {AIINFRA_DTYPE_F32, AIINFRA_DTYPE_F16, AIINFRA_DTYPE_Q8_0};
  *dtype = AIINFRA_DTYPE_DEFAULT;
  if (name == NULL) return true;
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
    if (strcasecmp(name, names[i]) == 0) *dtype = types[i];
  if (*dtype == AIINFRA_DTYPE_DEFAULT) cli_fail("--kv-type is '%.20s', must be f32, f16 or q8_0", name);
  return *dtype != AIINFRA_DTYPE_DEFAULT;
}

/* A file that cannot be used is no failure: prompts are computed. */
static void load_cache(aiinfra_kv *kv)
{
  aiinfra_error err;
  aiinfra_status rc = cli_kv_file != NULL ? aiinfra_kv_load(kv, cli_kv_file, &err) : AIINFRA_OK;
  if (rc != AIINFRA_OK && rc != AIINFRA_ENOENT) cli_say("aiinfra: %s; it will be made anew", err.message);
}

static void save_cache(cli_engine *e)
{
  aiinfra_error err;
  if (cli_kv_file == NULL || e->kv == NULL) return;
  if (aiinfra_runtime_run(e->runtime, &err) != AIINFRA_OK || aiinfra_kv_save(e->kv, cli_kv_file, &err) != AIINFRA_OK)
    cli_say("aiinfra: %s", err.message);
}

int cli_engine_open(const char *path, int64_t threads, const char *kv_type, const aiinfra_batcher_opts *opts,
                    cli_engine *e)
{
  aiinfra_kv_opts kv_opts = AIINFRA_KV_OPTS_INIT;
  aiinfra_error err;
  if (!cli_kv_type(kv_type, &kv_opts.dtype)) return CLI_USAGE;
  kv_opts.budget_bytes = (uint64_t)cli_kv_mib << 20;
  kv_opts.spill_bytes = (uint64_t)cli_kv_spill_mib << 20;
  kv_opts.spill_dir = cli_kv_spill_dir;
  int code = cli_model_open(path, threads, e);
  if (code != CLI_OK) return code;
  if (aiinfra_kv_create(e->model, &kv_opts, &e->kv, &err) != AIINFRA_OK ||
      aiinfra_batcher_create(e->model, e->kv, opts, &e->batcher, &err) != AIINFRA_OK) {
    code = cli_error(path, &err);
    cli_engine_close(e);
  }
  if (code == CLI_OK) load_cache(e->kv);
  return code;
}

void cli_engine_close(cli_engine *e)
{
  aiinfra_batcher_free(e->batcher);
  save_cache(e);
  aiinfra_kv_free(e->kv);
  aiinfra_model_free(e->model);
  aiinfra_runtime_free(e->runtime);
  memset(e, 0, sizeof *e);
}

const char *cli_default_model(const char *given)
{
  static const char *const places[] = {"../examples/nano/nano.gguf", "../share/aiinfra/nano.gguf",
                                       "../../examples/nano/nano.gguf"};
  static char path[PATH_MAX + 64];
  const char *env = getenv("AIINFRA_MODEL");
  ssize_t n;
  char *slash;
  if (given != NULL) return given;
  if (env != NULL && env[0] != '\0') return env;
  n = readlink("/proc/self/exe", path, PATH_MAX);
  if (n > 0) {
    path[n] = '\0';
    slash = strrchr(path, '/');
    for (size_t i = 0; slash != NULL && i < sizeof places / sizeof places[0]; i++) {
      snprintf(slash + 1, sizeof path - (size_t)(slash + 1 - path), "%s", places[i]);
      if (access(path, R_OK) == 0) return path;
    }
  }
  cli_fail("no model: give --model FILE, or set AIINFRA_MODEL");
  return NULL;
}

int cli_db_open(aiinfra_runtime *runtime, const char *path, bool must_exist, const char *scope, aiinfra_db **db,
                aiinfra_memory **memory)
{
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  aiinfra_memory_opts memory_opts = AIINFRA_MEMORY_OPTS_INIT;
  aiinfra_error err;
  *db = NULL;
  *memory = NULL;
  opts.must_exist = must_exist;
  memory_opts.scope = scope;
  if (aiinfra_db_open(runtime, path, &opts, db, &err) != AIINFRA_OK) return cli_error(path, &err);
  if (aiinfra_memory_open(*db, &memory_opts, memory, &err) == AIINFRA_OK) return CLI_OK;
  aiinfra_db_free(*db);
  *db = NULL;
  return cli_error(path, &err);
}
