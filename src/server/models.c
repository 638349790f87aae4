/* models.c - which batcher answers under which name. The first one is the default. Loop thread. */
#include "src/engine/engine.h"
#include "src/server/server.h"

const aii_served *aii_models_find(const aiinfra_server *server, const char *name)
{
  if (server->n_models == 0) return NULL;
  if (name == NULL || name[0] == '\0') return &server->models[0];
  for (size_t i = 0; i < server->n_models; i++)
    if (strcmp(server->models[i].name, name) == 0) return &server->models[i];
  return NULL;
}

aiinfra_status aii_models_add(aiinfra_server *server, const char *name, aiinfra_batcher *batcher, aiinfra_error *err)
{
  aii_mem *mem = &server->rt->mem;
  if (server->n_models > 0 && aii_models_find(server, name) != NULL)
    return aii_fail(err, AIINFRA_EEXIST, "a model named \"%s\" is served already", name);
  char *copy = aii_strdup(mem, name);
  if (copy == NULL ||
      !aii_grow(mem, &server->models, &server->cap_models, server->n_models + 1, sizeof *server->models)) {
    aii_strfree(mem, copy);
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for a model's name");
  }
  aii_batcher_ref(batcher);
  server->models[server->n_models++] = (aii_served){
      .name = copy, .batcher = batcher, .created = aii_unix_ms() / 1000, .identity = aii_cached_identity(batcher)};
  return AIINFRA_OK;
}

void aii_models_free(aiinfra_server *server)
{
  aii_mem *mem = &server->rt->mem;
  for (size_t i = 0; i < server->n_models; i++) {
    aii_strfree(mem, server->models[i].name);
    aii_batcher_unref(server->models[i].batcher);
  }
  aii_del(mem, server->models, server->cap_models * sizeof *server->models);
}
