/* http_body_fuzz.c - any body: each endpoint refuses it with a message or makes options that hold together. */
#include <stdlib.h>

#include "src/server/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const aii_params *p, aii_endpoint endpoint)
{
  const aiinfra_generate_opts *o = &p->opts;
  if (endpoint == AII_RERANK) {
    if (p->query == NULL || p->n_inputs == 0 || p->n_inputs > AII_SERVER_MAX_INPUTS || p->top_n < 0) abort();
    for (size_t i = 0; i < p->n_inputs; i++)
      if (p->inputs[i] == NULL) abort();
    return;
  }
  if (endpoint == AII_EMBEDDING) {
    if (p->n_inputs == 0 || p->n_inputs > AII_SERVER_MAX_INPUTS) abort();
    for (size_t i = 0; i < p->n_inputs; i++)
      if (p->inputs[i] == NULL || p->inputs[i][0] == '\0') abort();
    return;
  }
  if ((endpoint == AII_CHAT) != (o->messages_json != NULL) || (endpoint == AII_COMPLETION) != (o->text != NULL))
    abort();
  if (!(o->temperature >= 0.0f && o->top_p > 0.0f && o->top_p <= 1.0f) || o->top_k < 0) abort();
  if (o->n_stop > AII_SERVER_MAX_STOPS) abort();
  for (size_t i = 0; i < o->n_stop; i++)
    if (o->stop[i] == NULL) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  aii_mem mem;
  aii_mem_init(&mem, NULL, 256u << 20);
  for (int i = AII_CHAT; i <= AII_RERANK; i++) {
    aii_params params;
    aiinfra_error err = {0};
    aiinfra_status rc = aii_params_parse(&params, &mem, (aii_endpoint)i, (const char *)data, size, &err);
    if (rc == AIINFRA_OK) check(&params, (aii_endpoint)i);
    else if (err.message[0] == '\0') abort();
    aii_params_free(&params);
    if (mem.used_bytes != 0) abort();
  }
  return 0;
}
