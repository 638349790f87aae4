/* absent_api.c - what a build without the server answers (make WITH_SERVER=0): the same symbols, AIINFRA_ENOTSUP. */
#include "aiinfra/server.h"
#include "lib/base/base.h"

aiinfra_status aiinfra_server_create(aiinfra_runtime *runtime, const aiinfra_server_opts *opts, aiinfra_server **out,
                                     aiinfra_error *err)
{
  (void)runtime, (void)opts;
  if (out != NULL) *out = NULL;
  return aii_fail(err, AIINFRA_ENOTSUP, "this build has no server: build the library with WITH_SERVER=1");
}

aiinfra_status aiinfra_server_add_model(aiinfra_server *server, const char *name, aiinfra_batcher *batcher,
                                        aiinfra_error *err)
{
  (void)server, (void)name, (void)batcher;
  return aii_fail(err, AIINFRA_ENOTSUP, "this build has no server: build the library with WITH_SERVER=1");
}

aiinfra_status aiinfra_server_add_memory(aiinfra_server *server, const char *name, aiinfra_memory *memory,
                                         aiinfra_error *err)
{
  (void)server, (void)name, (void)memory;
  return aii_fail(err, AIINFRA_ENOTSUP, "this build has no server: build the library with WITH_SERVER=1");
}

aiinfra_status aiinfra_server_set_cache(aiinfra_server *server, aiinfra_cache *cache, aiinfra_error *err)
{
  (void)server, (void)cache;
  return aii_fail(err, AIINFRA_ENOTSUP, "this build has no server: build the library with WITH_SERVER=1");
}

int aiinfra_server_port(const aiinfra_server *server)
{
  (void)server;
  return 0;
}

void aiinfra_server_close(aiinfra_server *server, aiinfra_close_cb closed, void *user)
{
  (void)server, (void)closed, (void)user;
}

void aiinfra_server_free(aiinfra_server *server)
{
  (void)server;
}
