/* pdf.c - the text of a PDF file, by poppler's pdftotext, which runs as a child without a shell.
 *
 * The happy path is: a pipe -> the child is started with the file's name -> its text is read until it closes the pipe ->
 * it is waited for. A child that takes too long or writes too much is killed. Pages are parted by form feeds.
 *
 * Possible failures are: no pdftotext (ENOTSUP, with the cure), a file that it cannot read (EFORMAT), time, size, memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/retrieve/retrieve.h"

enum { PATIENCE_MS = 60000 };

extern char **environ;

static aiinfra_status start(const char *path, int out, pid_t *pid, aiinfra_error *err)
{
  posix_spawn_file_actions_t actions;
  /* one "-" alone would be standard output, and a name that begins so an option */
  char program[] = "pdftotext", quiet[] = "-q", layout[] = "-enc", utf8[] = "UTF-8", to[] = "-";
  char *argv[] = {program, quiet, layout, utf8, (char *)(uintptr_t)path, to, NULL};
  int error = posix_spawn_file_actions_init(&actions);
  if (error != 0) return aii_fail_errno(err, error, "start pdftotext");
  error = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  if (error == 0) error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (error == 0) error = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  if (error == 0) error = posix_spawnp(pid, program, &actions, NULL, argv, environ);
  (void)posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT)
    return aii_fail(err, AIINFRA_ENOTSUP, "a PDF needs the program pdftotext: install poppler-utils");
  return error == 0 ? AIINFRA_OK : aii_fail_errno(err, error, "start pdftotext");
}

/* Reads until the child closes its end. */
static aiinfra_status read_text(int fd, aii_buf *text, aiinfra_error *err)
{
  uint64_t end_ns = aii_now_ns() + (uint64_t)PATIENCE_MS * 1000000;
  char bytes[16384];
  for (;;) {
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    uint64_t now = aii_now_ns();
    if (now >= end_ns)
      return aii_fail(err, AIINFRA_ETIMEDOUT, "pdftotext took more than %d seconds", PATIENCE_MS / 1000);
    int ready = poll(&wait, 1, (int)((end_ns - now) / 1000000) + 1);
    if (ready < 0 && errno != EINTR) return aii_fail_errno(err, errno, "wait for pdftotext");
    if (ready <= 0) continue;
    ssize_t got = read(fd, bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return aii_fail_errno(err, errno, "read from pdftotext");
    if (got == 0) return AIINFRA_OK;
    aii_buf_add(text, bytes, (size_t)got);
    if (text->over) return aii_fail(err, AIINFRA_ELIMIT, "its text has more than %zu MiB", AII_FILE_MAX_BYTES >> 20);
    if (text->failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for the text");
  }
}

/* Waits for the child, which has closed its output or is to be killed. */
static aiinfra_status finish(pid_t pid, aiinfra_status rc, aiinfra_error *err)
{
  int how = 0;
  if (rc != AIINFRA_OK) (void)kill(pid, SIGKILL);
  pid_t got;
  do {
    got = waitpid(pid, &how, 0);
  } while (got < 0 && errno == EINTR);
  if (rc != AIINFRA_OK || got < 0) return rc; /* a host that ignores its children's ends has them gone already */
  if (WIFEXITED(how) && WEXITSTATUS(how) == 0) return AIINFRA_OK;
  if (WIFEXITED(how) && WEXITSTATUS(how) == 127)
    return aii_fail(err, AIINFRA_ENOTSUP, "a PDF needs the program pdftotext: install poppler-utils");
  return aii_fail(err, AIINFRA_EFORMAT, "pdftotext cannot read it: it is damaged, or locked by a password");
}

static aiinfra_status run(const char *path, aii_buf *text, aiinfra_error *err)
{
  int fds[2];
  pid_t pid;
  if (pipe2(fds, O_CLOEXEC) != 0) return aii_fail_errno(err, errno, "start pdftotext");
  aiinfra_status rc = start(path, fds[1], &pid, err);
  (void)close(fds[1]);
  if (rc == AIINFRA_OK) rc = finish(pid, read_text(fds[0], text, err), err);
  (void)close(fds[0]);
  return rc;
}

aiinfra_status aii_load_pdf(aii_loaded *doc, const char *path, aiinfra_error *err)
{
  aii_buf text, name;
  doc->format = AII_FORMAT_PDF;
  aii_buf_init(&text, doc->mem, AII_FILE_MAX_BYTES);
  aii_buf_init(&name, doc->mem, 0);
  if (path[0] == '-') aii_buf_str(&name, "./"); /* not an option */
  aii_buf_str(&name, path);
  aiinfra_status rc = name.failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a name") : run(name.data, &text, err);
  const char *s = aii_buf_cstr(&text);
  if (rc == AIINFRA_OK && (!aii_utf8_valid(s, text.len) || memchr(s, '\0', text.len) != NULL))
    rc = aii_fail(err, AIINFRA_EFORMAT, "pdftotext gave no UTF-8");
  if (rc == AIINFRA_OK) {
    aii_put_exact(doc, s, 0, text.len);
    aii_blocks_plain(doc);
    if (doc->n_blocks == 0 && !doc->failed)
      rc = aii_fail(err, AIINFRA_ENOTSUP, "it has no text: its pages may be pictures");
  }
  aii_buf_free(&text);
  aii_buf_free(&name);
  return rc;
}
