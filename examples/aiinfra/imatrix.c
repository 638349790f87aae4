/* imatrix.c - `aiinfra imatrix`: runs a text through a model and writes which columns of its weights matter. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "windows.h"

/* Better now than after an hour of work. */
static int check_folder(const char *path)
{
  const char *slash = strrchr(path, '/');
  char *folder = slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
  int code = CLI_OK;
  if (folder == NULL) return cli_fail("out of memory");
  if (access(folder, W_OK | X_OK) != 0) code = cli_fail("cannot write to the folder '%s': %s", folder, strerror(errno));
  free(folder);
  return code;
}

/* The logits of scored tokens are not looked at: what counts is that they were computed. */
static void ignore(void *user, const float *const *logits, size_t n_vocab, aiinfra_token token)
{
  (void)logits, (void)n_vocab, (void)token;
  ++*(size_t *)user;
}

static const char *nothing_more(void *user)
{
  (void)user;
  return "observed";
}

static int observe(windows *w, const char *text_path, const char *to)
{
  aiinfra_imatrix *imatrix;
  aiinfra_error err;
  size_t scored = 0;
  if (aiinfra_imatrix_create(w->models[0], &imatrix, &err) != AIINFRA_OK) return cli_error(w->command, &err);
  int code = windows_run(w, ignore, nothing_more, &scored);
  if (code == CLI_OK && aiinfra_imatrix_save(imatrix, to, text_path, &err) != AIINFRA_OK) code = cli_error(to, &err);
  aiinfra_imatrix_free(imatrix);
  if (code != CLI_OK) return code;
  printf("%s: %zu windows of %zu tokens\n", to, w->n_windows, w->context);
  return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

int cmd_imatrix(int argc, char **argv)
{
  window_options o = {0};
  const char *to = NULL;
  const cli_option options[] = {{"output", 'o', CLI_TEXT, &to, 0, 0, "FILE", "where the importance matrix goes (GGUF)"},
                                WINDOW_TEXT_OPTIONS(&o),
                                {0}};
  const cli_command command = {
      "imatrix",
      "MODEL TEXTFILE -o FILE [OPTIONS]",
      "Measures which columns of a model's weights matter: the importance matrix that 'aiinfra\n"
      "quantize --imatrix' keeps errors small by. TEXTFILE is like what the model will be used\n"
      "for; some hundred thousand tokens are plenty. TEXTFILE '-' is stdin.",
      options,
      2,
      2};
  windows w;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  if (to == NULL) return cli_usage("imatrix", "-o FILE is missing");
  code = check_folder(to);
  if (code != CLI_OK) return code;
  cli_catch_interrupts();
  code = windows_open(&w, "imatrix", (const char *const *)argv, 1, argv[1], &o);
  if (code == CLI_OK) code = observe(&w, argv[1], to);
  windows_close(&w);
  return code;
}
