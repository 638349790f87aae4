/* listen.c - a listening socket on a numeric address, made here so that "the port is in use" can be told apart. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/server/server.h"

enum { BACKLOG = 511 };

static int port_of(int fd)
{
  struct sockaddr_storage addr;
  socklen_t n = sizeof addr;
  memset(&addr, 0, sizeof addr);
  if (getsockname(fd, (struct sockaddr *)&addr, &n) != 0) return -1;
  if (addr.ss_family == AF_INET6) return ntohs(((const struct sockaddr_in6 *)(const void *)&addr)->sin6_port);
  return ntohs(((const struct sockaddr_in *)(const void *)&addr)->sin_port);
}

static aiinfra_status bind_and_listen(int fd, const struct addrinfo *to, uint16_t port, aiinfra_error *err)
{
  struct sockaddr_storage addr;
  int on = 1;
  memset(&addr, 0, sizeof addr);
  memcpy(&addr, to->ai_addr, to->ai_addrlen);
  if (addr.ss_family == AF_INET6) ((struct sockaddr_in6 *)(void *)&addr)->sin6_port = htons(port);
  else ((struct sockaddr_in *)(void *)&addr)->sin_port = htons(port);
  (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (const struct sockaddr *)&addr, to->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return AIINFRA_OK;
  if (errno == EADDRINUSE) return aii_fail_code(err, AIINFRA_EBUSY, errno, "port %u is in use", (unsigned)port);
  if (errno == EADDRNOTAVAIL || errno == EACCES)
    return aii_fail_code(err, AIINFRA_EINVAL, errno, "the address or port %u may not be bound: %s", (unsigned)port,
                         errno == EACCES ? "not permitted" : "no such address here");
  return aii_fail_code(err, AIINFRA_EIO, errno, "bind port %u failed", (unsigned)port);
}

aiinfra_status aii_listen(const char *host, uint16_t port, int *fd, int *bound_port, aiinfra_error *err)
{
  struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *list = NULL;
  *fd = -1;
  if (getaddrinfo(host, NULL, &hints, &list) != 0 || list == NULL)
    return aii_fail(err, AIINFRA_EINVAL, "host \"%.64s\" is not a numeric address, such as 127.0.0.1 or ::1", host);
  aiinfra_status rc = AIINFRA_OK;
  int s = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (s < 0) rc = aii_fail_errno(err, errno, "make a socket");
  if (rc == AIINFRA_OK) rc = bind_and_listen(s, list, port, err);
  freeaddrinfo(list);
  if (rc == AIINFRA_OK && (*bound_port = port_of(s)) < 0) rc = aii_fail_errno(err, errno, "ask a socket for its port");
  if (rc == AIINFRA_OK) *fd = s;
  else if (s >= 0) (void)close(s);
  return rc;
}
