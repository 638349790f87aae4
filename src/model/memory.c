/* memory.c - how much memory this process may have: what the machine has, or less if its control group says so.
 *
 * Read from /proc/meminfo, and from memory.max (version 2) or memory.limit_in_bytes (version 1) of the process's
 * control group and all groups above it. Files that are missing or odd do not limit. Any thread.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "src/model/arch.h"

enum { TEXT_BYTES = 4096 };

/* The file's first bytes, NUL-terminated; false when it cannot be read. */
static bool read_text(const char *path, char text[TEXT_BYTES])
{
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = read(fd, text, TEXT_BYTES - 1);
  (void)close(fd);
  text[n > 0 ? n : 0] = '\0';
  return n > 0;
}

static uint64_t physical_bytes(void)
{
  char text[TEXT_BYTES];
  if (!read_text("/proc/meminfo", text)) return 0;
  const char *line = strstr(text, "MemTotal:");
  return line != NULL ? strtoull(line + 9, NULL, 10) * 1024 : 0;
}

/* The least limit of a group and of those above it; `path` is cut shorter on the way. */
static uint64_t group_limit(const char *root, char *path, const char *file)
{
  uint64_t least = UINT64_MAX;
  for (;;) {
    char name[TEXT_BYTES], text[TEXT_BYTES];
    if ((size_t)snprintf(name, sizeof name, "%s%s/%s", root, path, file) < sizeof name && read_text(name, text) &&
        text[0] >= '0' && text[0] <= '9') {
      uint64_t limit = strtoull(text, NULL, 10);
      if (limit > 0) least = AII_MIN(least, limit);
    }
    char *slash = strrchr(path, '/');
    if (slash == NULL) return least;
    *slash = '\0';
  }
}

static uint64_t cgroup_bytes(void)
{
  char text[TEXT_BYTES];
  uint64_t least = UINT64_MAX;
  if (!read_text("/proc/self/cgroup", text)) return least;
  for (char *line = text, *next; line != NULL && *line != '\0'; line = next) {
    next = strchr(line, '\n');
    if (next != NULL) *next++ = '\0';
    char *controllers = strchr(line, ':');
    char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (path == NULL) continue;
    *path++ = '\0';
    uint64_t limit = UINT64_MAX;
    if (controllers[1] == '\0') {
      limit = group_limit("/sys/fs/cgroup", path, "memory.max");
    } else if (strstr(controllers + 1, "memory") != NULL) {
      limit = group_limit("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes");
    }
    least = AII_MIN(least, limit);
  }
  return least;
}

uint64_t aii_memory_total(void)
{
  uint64_t physical = physical_bytes(), group = cgroup_bytes();
  return physical != 0 ? AII_MIN(physical, group) : group != UINT64_MAX ? group : 0;
}
