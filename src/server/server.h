/* src/server/server.h - the HTTP server: libmicrohttpd turned by our loop, exchanges, and OpenAI's shapes.
 *
 *   socket ─> libmicrohttpd ─> exchange: route, key, body ─> params ─> batcher
 *                ^  resume        │ suspend while it waits         │ chunks, result, vectors
 *                └────────────────┴──── reply or event stream <────┘
 *
 * Invariants:
 *  1. All of it runs on the loop's thread. libmicrohttpd has no thread of its own; MHD_run() is called from aii_server_turn()
 *     only, which nothing inside it calls again.
 *  2. An exchange has one reference for each of: its connection, its work in flight, its watch of the socket. Work holds
 *     the exchange, not the connection: a client that leaves cancels the work, whose last callback then frees the exchange.
 *  3. A connection is suspended only while its exchange waits for work; whatever ends the wait resumes it.
 *  4. Bodies, event streams and vectors that wait for a slow client are bounded.
 *  5. The server is freed after its handle was given up, its daemon stopped, its poll handle closed and the last exchange
 *     freed.
 */
#ifndef AII_SERVER_H
#define AII_SERVER_H

#include <microhttpd.h>
#include <uv.h>

#include "aiinfra/batcher.h"
#include "aiinfra/cache.h"
#include "aiinfra/server.h"
#include "lib/base/base.h"
#include "lib/json/json.h"
#include "lib/loop/loop.h"
#include "src/runtime/runtime.h"

enum {
  AII_SERVER_MAX_STOPS = 16,
  AII_SERVER_MAX_INPUTS = 2048,     /* texts of one embedding request */
  AII_SERVER_MAX_UNREAD = 1 << 20,  /* bytes of an event stream that a client has not read */
  AII_SERVER_MAX_REPLY = 256 << 20, /* bytes of a reply that is no stream */
  AII_SERVER_MAX_DISCARD = 16 << 20 /* bytes of a refused body that are read, so that the client reads our answer */
};

typedef struct aii_exchange aii_exchange;

/* ---- server (server.c, models.c, search.c) ----------------------------------------------------------------------------------- */

typedef struct aii_served {
  char *name;
  aiinfra_batcher *batcher;
  int64_t created;   /* seconds since 1970 */
  uint64_t identity; /* of what it computes */
} aii_served;

typedef struct aii_searched {
  char *name;
  aiinfra_memory *memory;
} aii_searched;

struct aiinfra_server {
  aiinfra_runtime *rt;
  char *host, *api_key; /* api_key NULL: none */
  uint64_t max_body_bytes;
  uint32_t max_connections;
  int port;
  struct MHD_Daemon *daemon; /* NULL once stopped */
  uv_poll_t poll;            /* of the daemon's epoll descriptor */
  bool poll_open;
  aii_timer *timer;       /* when the daemon wants to run next */
  aii_timer *grace_timer; /* how long a closing server waits for slow clients */
  aii_task kick;
  bool kick_posted, closing, stop_now;
  aii_served *models;
  size_t n_models, cap_models;
  aii_searched *memories;
  size_t n_memories, cap_memories;
  aiinfra_cache *cache; /* NULL: none */
  aii_exchange *open;   /* every exchange that has not been freed */
  uint32_t n_open, n_connected;
  uint64_t next_id;
  uint64_t id_salt;
  aii_metric *in_flight; /* exchanges that are open */
  aiinfra_close_cb closed;
  void *closed_user;
};

aiinfra_status aii_server_create(aiinfra_runtime *rt, const aiinfra_server_opts *opts, aiinfra_server **out,
                                 aiinfra_error *err);
void aii_server_close(aiinfra_server *server, aiinfra_close_cb closed, void *user);
void aii_server_kick(aiinfra_server *server);      /* a turn soon */
void aii_server_maybe_end(aiinfra_server *server); /* call it when an exchange or a handle is gone */

/* A listening socket on a numeric address; port 0: any. *port receives the one it has. */
aiinfra_status aii_listen(const char *host, uint16_t port, int *fd, int *bound_port, aiinfra_error *err);

aiinfra_status aii_models_add(aiinfra_server *server, const char *name, aiinfra_batcher *batcher, aiinfra_error *err);
void aii_models_free(aiinfra_server *server);
aiinfra_status aii_memories_add(aiinfra_server *server, const char *name, aiinfra_memory *memory, aiinfra_error *err);
void aii_memories_free(aiinfra_server *server);
const aii_served *aii_models_find(const aiinfra_server *server, const char *name); /* NULL or "": the default */

/* ---- params: a request's body, checked (params.c, chat.c) ----------------------------------------------------------- */

typedef enum aii_endpoint { AII_CHAT = 1, AII_COMPLETION = 2, AII_EMBEDDING = 3, AII_RERANK = 4 } aii_endpoint;

typedef struct aii_params {
  aii_mem *mem;
  json_t *root;      /* what the strings below are borrowed from */
  const char *field; /* the field that was read last: what an error is about; NULL: the body itself */
  const char *model;
  bool stream, include_usage, base64;
  aiinfra_generate_opts opts;
  const char *stops[AII_SERVER_MAX_STOPS];
  aii_buf messages, tools, schema, variables, bias;
  const char **inputs; /* texts to embed, documents to score */
  size_t n_inputs;
  int64_t dimensions; /* 0: as the model has */
  const char *query;
  int64_t top_n; /* 0: all */
  bool return_documents;
} aii_params;

/* Reads a body. Whatever is returned, aii_params_free() must follow. EFORMAT: no JSON; EINVAL, ENOTSUP: a bad field,
 * which `field` names; ELIMIT: nested too deep. */
aiinfra_status aii_params_parse(aii_params *params, aii_mem *mem, aii_endpoint endpoint, const char *body, size_t n,
                                aiinfra_error *err);
void aii_params_free(aii_params *params);
aiinfra_status aii_params_parse_chat(aii_params *params, aiinfra_error *err); /* chat.c: what only chats have */

/* ---- replies (reply.c) ----------------------------------------------------------------------------------------------- */

typedef struct aii_reply {
  unsigned status; /* 0: none yet */
  const char *content_type;
  const char *allow; /* of a 405; else NULL */
  bool retry;        /* Retry-After: 1 */
  bool close;        /* the connection ends with it */
  aii_buf body;
} aii_reply;

/* Replaces the body by OpenAI's error object. param and code may be NULL. */
void aii_reply_error(aii_reply *reply, unsigned status, const char *param, const char *code, const char *message);
/* The same from what a call returned. */
void aii_reply_status(aii_reply *reply, aiinfra_status status, const char *param, const aiinfra_error *err);
void aii_error_json(aii_buf *out, unsigned status, const char *param, const char *code, const char *message);
unsigned aii_http_status(aiinfra_status status);
/* A reply with a body that has been written; becomes a 500 when memory ran out meanwhile. */
void aii_reply_done(aii_reply *reply, unsigned status, const char *content_type);

/* ---- exchanges: one request and its answer (exchange.c) --------------------------------------------------------------- */

typedef struct aii_route aii_route;

typedef enum aii_cached_state {
  AII_CACHED_NONE, /* there is no cache, or nothing to ask it */
  AII_CACHED_BYPASS,
  AII_CACHED_MISS,
  AII_CACHED_HIT
} aii_cached_state;

/* What the response cache has to do with an exchange (cached.c). */
typedef struct aii_cached {
  aii_cached_state state;
  bool store;      /* the answer is to be kept */
  bool same;       /* shadow mode: both answers said the same */
  aii_buf form;    /* the request as the cache knows it */
  aii_buf would;   /* shadow mode: the text that would have been served */
  char tenant[40]; /* "": nobody in particular */
  char tier[12], shadow[12];
  int64_t id, age_s;
} aii_cached;

struct aii_exchange {
  aiinfra_server *server;
  aii_exchange *prev, *next;
  uint32_t refs;
  struct MHD_Connection *connection; /* NULL: gone */
  const aii_route *route;            /* NULL: unknown */
  char *path;
  uint64_t start_ns;
  char id[40]; /* "chatcmpl-..." */
  int64_t created;
  aii_buf body;
  uint64_t body_seen;
  bool started, suspended, queued, gone, watching;
  uv_poll_t watch; /* of the client's socket while it waits */
  aii_reply reply;
  aii_endpoint endpoint;
  aii_params params;
  aiinfra_batcher *batcher;
  const char *model_name;   /* as it stands in the answer */
  aiinfra_request *request; /* of the batcher, in flight */
  /* an event stream */
  bool role_sent, stream_ended;
  aii_buf events;
  size_t n_sent;
  aii_cached cached;
};

/* libmicrohttpd's callbacks. */
enum MHD_Result aii_exchange_handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                                    const char *version, const char *upload, size_t *n_upload, void **con_cls);
void aii_exchange_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                            enum MHD_RequestTerminationCode code);

void aii_exchange_ref(aii_exchange *x);
void aii_exchange_unref(aii_exchange *x);
void aii_exchange_wake(aii_exchange *x);    /* there is something to send */
void aii_exchange_cancel(aii_exchange *x);  /* its work; harmless when it has none */
void aii_exchange_abandon(aii_exchange *x); /* cancels, and cuts the connection */

/* ---- routes (route.c) ---------------------------------------------------------------------------------------------------- */

struct aii_route {
  const char *path; /* a final '/' matches what follows it too */
  const char *method;
  void (*run)(aii_exchange *x);
};

/* Finds the route and checks the head of the request; an error is left in x->reply. */
void aii_route_admit(aii_exchange *x, const char *url, const char *method);
bool aii_key_matches(const char *header, const char *key); /* "Bearer KEY", in constant time */

/* Handlers: each leaves a reply or starts work. */
void aii_run_chat(aii_exchange *x);         /* generate.c */
void aii_run_completion(aii_exchange *x);   /* generate.c */
void aii_run_embeddings(aii_exchange *x);   /* embeddings.c */
void aii_run_search(aii_exchange *x);       /* search.c */
void aii_run_rerank(aii_exchange *x);       /* rerank.c */
void aii_run_cache_report(aii_exchange *x); /* cached.c */

/* The batcher has ended the exchange's request: true when the client is still there. */
bool aii_exchange_took(aii_exchange *x);
/* Answers with an error, as a status or, when a stream has begun, as its last event. param may be NULL. */
void aii_exchange_fail(aii_exchange *x, const char *param, aiinfra_status status, const aiinfra_error *err);

/* generate.c, for whoever has the answer: to the batcher, a piece of an answer, its end. */
void aii_generate_start(aii_exchange *x);
void aii_generate_chunk(aii_exchange *x, const aiinfra_chunk *chunk);
void aii_generate_finish(aii_exchange *x, const aiinfra_result *result);

/* Parses the body and finds the model; false: an error is in x->reply. */
bool aii_exchange_parse(aii_exchange *x, aii_endpoint endpoint);

/* ---- the response cache (cached.c) ------------------------------------------------------------------------------------------- */

aiinfra_status aii_cached_set(aiinfra_server *server, aiinfra_cache *cache, aiinfra_error *err);
uint64_t aii_cached_identity(const aiinfra_batcher *batcher);
void aii_cached_init(aii_exchange *x);
void aii_cached_free(aii_exchange *x);
bool aii_cached_look(aii_exchange *x); /* true: it looks, and goes on by itself */
void aii_cached_keep(aii_exchange *x, const aiinfra_result *result);
void aii_cached_add_headers(const aii_exchange *x, struct MHD_Response *response);

/* ---- OpenAI's shapes (openai.c) -------------------------------------------------------------------------------------------- */

void aii_openai_answer(const aii_exchange *x, const aiinfra_result *result, aii_buf *out);
/* Events of a stream; each ends in an empty line. */
void aii_openai_text_event(const aii_exchange *x, bool with_role, const char *text, size_t n, aii_buf *out);
void aii_openai_reasoning_event(const aii_exchange *x, const char *text, size_t n, aii_buf *out);
void aii_openai_call_event(const aii_exchange *x, const aiinfra_call_delta *call, aii_buf *out);
void aii_openai_end_events(const aii_exchange *x, const aiinfra_result *result, aii_buf *out);

#endif
