/* reply.c - what went wrong, in OpenAI's error shape and with the HTTP status that its clients expect.
 *
 * Clients retry 408, 409, 429 and 5xx, and nothing else: a request that can never succeed must not be one of these.
 */
#include "src/server/server.h"

unsigned aii_http_status(aiinfra_status status)
{
  switch (status) {
    case AIINFRA_OK: return MHD_HTTP_OK;
    case AIINFRA_EINVAL:
    case AIINFRA_ENOTSUP:
    case AIINFRA_EFORMAT:
    case AIINFRA_ELIMIT: return MHD_HTTP_BAD_REQUEST;
    case AIINFRA_ENOENT: return MHD_HTTP_NOT_FOUND;
    case AIINFRA_EBUSY: return MHD_HTTP_TOO_MANY_REQUESTS;
    case AIINFRA_ETIMEDOUT: return MHD_HTTP_REQUEST_TIMEOUT;
    case AIINFRA_ENOMEM:
    case AIINFRA_ENOSPC:
    case AIINFRA_ECANCELED:
    case AIINFRA_ECLOSED: return MHD_HTTP_SERVICE_UNAVAILABLE;
    case AIINFRA_EEXIST:
    case AIINFRA_EIO:
    case AIINFRA_EDEVICE:
    case AIINFRA_ETOOL:
    case AIINFRA_EINTERNAL: break;
  }
  return MHD_HTTP_INTERNAL_SERVER_ERROR;
}

static const char *type_of(unsigned status)
{
  if (status == MHD_HTTP_UNAUTHORIZED) return "authentication_error";
  if (status == MHD_HTTP_TOO_MANY_REQUESTS) return "rate_limit_exceeded";
  return status < MHD_HTTP_INTERNAL_SERVER_ERROR ? "invalid_request_error" : "server_error";
}

static void add_text(aii_buf *out, const char *text)
{
  if (text != NULL) aii_buf_json(out, text, strlen(text));
  else aii_buf_str(out, "null");
}

void aii_error_json(aii_buf *out, unsigned status, const char *param, const char *code, const char *message)
{
  aii_buf_str(out, "{\"error\":{\"message\":");
  add_text(out, message);
  aii_buf_fmt(out, ",\"type\":\"%s\",\"param\":", type_of(status));
  add_text(out, param);
  aii_buf_str(out, ",\"code\":");
  add_text(out, code);
  aii_buf_str(out, "}}");
}

void aii_reply_error(aii_reply *reply, unsigned status, const char *param, const char *code, const char *message)
{
  aii_buf_clear(&reply->body);
  aii_error_json(&reply->body, status, param, code, message);
  reply->status = status;
  reply->content_type = "application/json";
  reply->retry = status == MHD_HTTP_TOO_MANY_REQUESTS || status == MHD_HTTP_SERVICE_UNAVAILABLE;
}

/* The batcher's refusals of a prompt that is too long. Gateways choose another model by this code. */
static bool is_overflow(aiinfra_status status, const char *message)
{
  return status == AIINFRA_EINVAL && strncmp(message, "the prompt has ", 15) == 0;
}

void aii_reply_status(aii_reply *reply, aiinfra_status status, const char *param, const aiinfra_error *err)
{
  const char *message = err != NULL && err->message[0] != '\0' ? err->message : aiinfra_status_text(status);
  const char *code = NULL;
  if (is_overflow(status, message)) code = "context_length_exceeded";
  else if (status == AIINFRA_EFORMAT) code = "invalid_json";
  else if (status == AIINFRA_ENOTSUP) code = "unsupported";
  aii_reply_error(reply, aii_http_status(status), param, code, message);
}

void aii_reply_done(aii_reply *reply, unsigned status, const char *content_type)
{
  if (reply->body.failed) {
    aii_buf_free(&reply->body);
    aii_reply_error(reply, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, NULL, "no memory for the answer");
    return;
  }
  reply->status = status;
  reply->content_type = content_type;
}
