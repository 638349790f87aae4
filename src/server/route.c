/* route.c - what may be asked for: paths, methods, the key; and the three pages that need no work.
 *
 * A head is refused in this order: closing, key, path, method, content type. Demanding "application/json" also keeps web
 * pages of other origins out: their browsers ask first before they send that type, and are not answered.
 */
#include <stdio.h>
#include <strings.h>

#include "src/server/server.h"

static const char json_media[] = "application/json";

/* ---- pages -------------------------------------------------------------------------------------------------------------- */

static void add_model(const aii_served *model, aii_buf *out)
{
  aiinfra_model_info info = {.struct_size = sizeof info};
  aii_buf_str(out, "{\"id\":");
  aii_buf_json(out, model->name, strlen(model->name));
  aii_buf_fmt(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"aiinfra\"", (long long)model->created);
  if (aiinfra_model_get_info(aiinfra_batcher_model(model->batcher), &info, NULL) == AIINFRA_OK)
    aii_buf_fmt(out, ",\"max_model_len\":%u", info.max_context);
  aii_buf_char(out, '}');
}

static void run_models(aii_exchange *x)
{
  const aiinfra_server *s = x->server;
  aii_buf *out = &x->reply.body;
  aii_buf_str(out, "{\"object\":\"list\",\"data\":[");
  for (size_t i = 0; i < s->n_models; i++) {
    if (i > 0) aii_buf_char(out, ',');
    add_model(&s->models[i], out);
  }
  aii_buf_str(out, "]}");
  aii_reply_done(&x->reply, MHD_HTTP_OK, json_media);
}

static void run_model(aii_exchange *x)
{
  const char *name = x->path + strlen(x->route->path);
  const aii_served *model = name[0] != '\0' ? aii_models_find(x->server, name) : NULL;
  if (model == NULL) {
    aii_reply_error(&x->reply, MHD_HTTP_NOT_FOUND, "model", "model_not_found", "no such model is served here");
    return;
  }
  add_model(model, &x->reply.body);
  aii_reply_done(&x->reply, MHD_HTTP_OK, json_media);
}

static void run_health(aii_exchange *x)
{
  aii_buf_str(&x->reply.body, "{\"status\":\"ok\"}");
  aii_reply_done(&x->reply, MHD_HTTP_OK, json_media);
}

static void run_metrics(aii_exchange *x)
{
  aii_metrics_render(x->server->rt->metrics, &x->reply.body);
  aii_reply_done(&x->reply, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8");
}

static const aii_route routes[] = {
    {"/v1/chat/completions", "POST", aii_run_chat},
    {"/v1/completions", "POST", aii_run_completion},
    {"/v1/embeddings", "POST", aii_run_embeddings},
    {"/v1/vector_stores/", "POST", aii_run_search},
    {"/v1/rerank", "POST", aii_run_rerank},
    {"/v2/rerank", "POST", aii_run_rerank},
    {"/rerank", "POST", aii_run_rerank},
    {"/v1/cache/report", "POST", aii_run_cache_report},
    {"/v1/models", "GET", run_models},
    {"/v1/models/", "GET", run_model},
    {"/health", "GET", run_health},
    {"/metrics", "GET", run_metrics},
};

/* ---- admission ------------------------------------------------------------------------------------------------------------ */

/* The time it takes depends on the lengths only, and on the key's not beyond a multiple of the header's. */
bool aii_key_matches(const char *header, const char *key)
{
  static const char scheme[] = "Bearer ";
  if (header == NULL || strncasecmp(header, scheme, sizeof scheme - 1) != 0) return false;
  const char *given = header + sizeof scheme - 1;
  size_t n_given = strlen(given), n_key = strlen(key);
  volatile unsigned differ = n_given != n_key;
  for (size_t i = 0; i < n_given; i++)
    differ |= (unsigned char)given[i] ^ (unsigned char)key[n_key > 0 ? i % n_key : 0];
  return differ == 0;
}

static bool path_matches(const aii_route *route, const char *url)
{
  size_t n = strlen(route->path);
  return route->path[n - 1] == '/' ? strncmp(url, route->path, n) == 0 : strcmp(url, route->path) == 0;
}

static bool is_json(const char *content_type)
{
  size_t n = sizeof json_media - 1;
  if (content_type == NULL || strncasecmp(content_type, json_media, n) != 0) return false;
  return content_type[n] == '\0' || content_type[n] == ';' || content_type[n] == ' ';
}

static const char *head(const aii_exchange *x, const char *name)
{
  return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

static bool needs_key(const aii_exchange *x, const char *url)
{
  if (x->server->api_key == NULL) return false;
  return strncmp(url, "/v1/", 4) == 0 || strncmp(url, "/v2/", 4) == 0 || strcmp(url, "/rerank") == 0;
}

static void check_method(aii_exchange *x, const char *method)
{
  bool post = strcmp(x->route->method, "POST") == 0;
  bool fits = strcmp(method, x->route->method) == 0 || (!post && strcmp(method, "HEAD") == 0);
  if (!fits) {
    x->reply.allow = post ? "POST" : "GET, HEAD";
    aii_reply_error(&x->reply, MHD_HTTP_METHOD_NOT_ALLOWED, NULL, "method_not_allowed",
                    post ? "this path wants POST" : "this path wants GET");
  } else if (post && !is_json(head(x, MHD_HTTP_HEADER_CONTENT_TYPE))) {
    aii_reply_error(&x->reply, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, NULL, "unsupported_media_type",
                    "send the header Content-Type: application/json");
  }
}

void aii_route_admit(aii_exchange *x, const char *url, const char *method)
{
  for (size_t i = 0; i < AII_COUNT(routes) && x->route == NULL; i++)
    if (path_matches(&routes[i], url)) x->route = &routes[i];
  if (x->server->closing) {
    aii_reply_error(&x->reply, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, NULL, "the server is closing");
  } else if (needs_key(x, url) && !aii_key_matches(head(x, MHD_HTTP_HEADER_AUTHORIZATION), x->server->api_key)) {
    aii_reply_error(&x->reply, MHD_HTTP_UNAUTHORIZED, NULL, "invalid_api_key",
                    "send the key that this server demands as Authorization: Bearer KEY");
  } else if (x->route == NULL) {
    aii_reply_error(&x->reply, MHD_HTTP_NOT_FOUND, NULL, "unknown_url", "no such path here");
  } else {
    check_method(x, method);
  }
}
