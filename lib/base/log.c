/* log.c - hands lines to the host's hook; without a hook the library is silent. Any thread. */
#include <stdio.h>

#include "lib/base/base.h"

void aii_logf(const aii_log *log, aiinfra_log_level level, const char *fmt, ...)
{
  if (log->fn == NULL || level > log->max_level) return;
  char line[1024];
  va_list args;
  va_start(args, fmt);
  (void)vsnprintf(line, sizeof line, fmt, args);
  va_end(args);
  log->fn(log->user, level, line);
}
