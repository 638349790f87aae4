/* postgres_server.h - a PostgreSQL server of a test program: tests/support/postgres.sh starts and ends it. */
#ifndef AIINFRA_TESTS_POSTGRES_SERVER_H
#define AIINFRA_TESTS_POSTGRES_SERVER_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/support.h"

static char server_owner[24];
static char server_folder[64]; /* short: a socket's path has 107 bytes at most */

/* Runs the script; its output, without the last newline, goes to out. Returns its exit code. */
static int server_do(const char *action, const char *sql, char *out, size_t cap)
{
  char command[2048];
  char unread[1024];
  size_t n;
  snprintf(command, sizeof command, "'%s' %s '%s' \"%s\"", test_path("tests/support/postgres.sh"), action,
           server_folder, sql != NULL ? sql : server_owner);
  FILE *pipe = popen(command, "r");
  if (pipe == NULL) return -1;
  if (out == NULL) out = unread, cap = sizeof unread;
  n = fread(out, 1, cap - 1, pipe);
  out[n] = '\0';
  while (n > 0 && out[n - 1] == '\n') out[--n] = '\0';
  int code = pclose(pipe);
  return code < 0 ? -1 : (code >> 8) & 0xFF;
}

static void server_end(void)
{
  char command[128];
  (void)server_do("stop", NULL, NULL, 0);
  snprintf(command, sizeof command, "rm -rf '%s'", server_folder);
  if (system(command) != 0) perror(server_folder);
}

/* NULL, or why there is none. */
static const char *server_begin(void)
{
  static char said[1024];
  if (access(test_built("libaiinfra-postgres.so"), R_OK) != 0) return "the plug-in for PostgreSQL was not built";
  strcpy(server_folder, "/tmp/aiinfra-pg-XXXXXX");
  if (mkdtemp(server_folder) == NULL) return "no temporary folder";
  snprintf(server_owner, sizeof server_owner, "%ld", (long)getpid());
  if (server_do("start", NULL, said, sizeof said) == 0) return NULL;
  server_end();
  return said;
}

#endif
