/* aiinfra/server.h - an OpenAI-compatible HTTP server on the runtime's loop, feeding the same batchers.
 *
 * Serves POST /v1/chat/completions and /v1/completions (streaming and not), POST /v1/embeddings, POST
 * /v1/vector_stores/NAME/search, POST /v1/cache/report, GET /v1/models, GET /health and GET /metrics.
 */
#ifndef AIINFRA_SERVER_H
#define AIINFRA_SERVER_H

#include "aiinfra/batcher.h"
#include "aiinfra/cache.h"
#include "aiinfra/memory.h"
#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** An HTTP server. */
typedef struct aiinfra_server aiinfra_server;

/** Options of aiinfra_server_create(). Zero is the default of every field. */
typedef struct aiinfra_server_opts {
  size_t struct_size;       /**< sizeof this struct; set by AIINFRA_SERVER_OPTS_INIT */
  const char *host;         /**< address to bind, numeric; NULL: "127.0.0.1" */
  const char *api_key;      /**< demanded as "Authorization: Bearer ..." on /v1/; NULL: none */
  uint64_t max_body_bytes;  /**< of a request; 0: 4 MiB */
  int32_t port;             /**< 0: 8080; -1: any free one, see aiinfra_server_port() */
  uint32_t max_connections; /**< 0: 1024 */
} aiinfra_server_opts;

/** Initialiser of aiinfra_server_opts. */
#define AIINFRA_SERVER_OPTS_INIT                     \
  {                                                  \
    sizeof(aiinfra_server_opts), NULL, NULL, 0, 0, 0 \
  }

/**
 * Binds the port. Nothing is served before the loop runs.
 *
 * On success the caller owns *out; release it with aiinfra_server_free() or aiinfra_server_close(). On failure *out
 * is NULL and nothing is held.
 *
 * @return AIINFRA_EBUSY    the port is in use
 *         AIINFRA_ENOTSUP  this build has no server
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_ENOMEM
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_server_create(aiinfra_runtime *runtime,
                                                                  const aiinfra_server_opts *opts, aiinfra_server **out,
                                                                  aiinfra_error *err);

/**
 * Serves a batcher's model under a name; the first one is the default. The server keeps the batcher alive.
 * @return AIINFRA_EEXIST  the name is taken
 *         AIINFRA_EINVAL, AIINFRA_ENOMEM
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_server_add_model(aiinfra_server *server, const char *name,
                                                                     aiinfra_batcher *batcher, aiinfra_error *err);

/**
 * Serves the documents and facts of a memory for search under a name. The server keeps the memory alive.
 * @return AIINFRA_EEXIST  the name is taken
 *         AIINFRA_EINVAL, AIINFRA_ENOMEM
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_server_add_memory(aiinfra_server *server, const char *name,
                                                                      aiinfra_memory *memory, aiinfra_error *err);

/**
 * Serves answers that were given before. The options of the cache say how. Chats and completions with temperature 0 or
 * a seed, and those with "cache": true, are looked for in it; it is told their answers. "cache": false and the header
 * Cache-Control with no-store or no-cache are obeyed. The header X-Cache of an answer is HIT, MISS or BYPASS. The server
 * keeps the cache alive.
 * @return AIINFRA_EEXIST  the server has a cache
 *         AIINFRA_EINVAL
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_server_set_cache(aiinfra_server *server, aiinfra_cache *cache,
                                                                     aiinfra_error *err);

/**
 * The port that the server listens on.
 * @return the port; 0 when server is NULL
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API int aiinfra_server_port(const aiinfra_server *server);

/**
 * Stops listening, cancels what is in flight, and calls `closed` when the last connection is gone.
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API void aiinfra_server_close(aiinfra_server *server, aiinfra_close_cb closed, void *user);

/**
 * Closes without a callback. NULL is allowed.
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API void aiinfra_server_free(aiinfra_server *server);

#ifdef __cplusplus
}
#endif
#endif
