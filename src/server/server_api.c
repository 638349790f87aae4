/* server_api.c - the public functions of aiinfra/server.h: check arguments, load options, call down. */
#include "src/server/server.h"

enum { MOST_CONNECTIONS = 1 << 16, MOST_NAME_BYTES = 256 };

static aiinfra_status check_opts(const aiinfra_server_opts *o, aiinfra_error *err)
{
  if (o->port < -1 || o->port > 65535)
    return aii_fail(err, AIINFRA_EINVAL, "port is %d, must be 1 to 65535, 0 (8080) or -1 (any free one)", o->port);
  if (o->max_connections > MOST_CONNECTIONS)
    return aii_fail(err, AIINFRA_EINVAL, "max_connections is %u, at most %d", o->max_connections, MOST_CONNECTIONS);
  if (o->max_body_bytes > AII_JSON_MAX_BYTES)
    return aii_fail(err, AIINFRA_EINVAL, "max_body_bytes is %llu, at most %zu", (unsigned long long)o->max_body_bytes,
                    AII_JSON_MAX_BYTES);
  if (o->api_key != NULL && o->api_key[0] == '\0')
    return aii_fail(err, AIINFRA_EINVAL, "api_key is empty; NULL asks for none");
  return AIINFRA_OK;
}

aiinfra_status aiinfra_server_create(aiinfra_runtime *runtime, const aiinfra_server_opts *opts, aiinfra_server **out,
                                     aiinfra_error *err)
{
  if (out == NULL) return aii_fail(err, AIINFRA_EINVAL, "out is NULL");
  *out = NULL;
  if (runtime == NULL) return aii_fail(err, AIINFRA_EINVAL, "runtime is NULL");
  aiinfra_server_opts o;
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, max_connections, err);
  if (rc == AIINFRA_OK) rc = check_opts(&o, err);
  return rc == AIINFRA_OK ? aii_server_create(runtime, &o, out, err) : rc;
}

static aiinfra_status check_add(const aiinfra_server *server, const char *name, const void *what, aiinfra_error *err)
{
  if (server == NULL || name == NULL || what == NULL)
    return aii_fail(err, AIINFRA_EINVAL, "the server, the name or what is to be served is NULL");
  size_t n = strnlen(name, MOST_NAME_BYTES + 1);
  if (n == 0 || n > MOST_NAME_BYTES || !aii_utf8_valid(name, n))
    return aii_fail(err, AIINFRA_EINVAL, "a name is 1 to %d bytes of UTF-8", MOST_NAME_BYTES);
  return server->closing ? aii_fail(err, AIINFRA_EINVAL, "the server is closing") : AIINFRA_OK;
}

aiinfra_status aiinfra_server_add_model(aiinfra_server *server, const char *name, aiinfra_batcher *batcher,
                                        aiinfra_error *err)
{
  aiinfra_status rc = check_add(server, name, batcher, err);
  return rc == AIINFRA_OK ? aii_models_add(server, name, batcher, err) : rc;
}

aiinfra_status aiinfra_server_add_memory(aiinfra_server *server, const char *name, aiinfra_memory *memory,
                                         aiinfra_error *err)
{
  aiinfra_status rc = check_add(server, name, memory, err);
  return rc == AIINFRA_OK ? aii_memories_add(server, name, memory, err) : rc;
}

aiinfra_status aiinfra_server_set_cache(aiinfra_server *server, aiinfra_cache *cache, aiinfra_error *err)
{
  if (server == NULL || cache == NULL) return aii_fail(err, AIINFRA_EINVAL, "the server or the cache is NULL");
  if (server->closing) return aii_fail(err, AIINFRA_EINVAL, "the server is closing");
  return aii_cached_set(server, cache, err);
}

int aiinfra_server_port(const aiinfra_server *server)
{
  return server != NULL ? server->port : 0;
}

void aiinfra_server_close(aiinfra_server *server, aiinfra_close_cb closed, void *user)
{
  if (server != NULL && !server->closing) aii_server_close(server, closed, user);
}

void aiinfra_server_free(aiinfra_server *server)
{
  aiinfra_server_close(server, NULL, NULL);
}
