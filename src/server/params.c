/* params.c - a request's JSON body, read and checked: what all endpoints share, completions, embeddings and reranking.
 *
 * Unknown fields are ignored, because clients send new ones before servers know them; known ones that would change the
 * answer and that we cannot honour are refused. `field` always names what was read last, so that whoever reports the
 * error can name it. Touches nothing but the params. Any thread.
 */
#include "src/server/server.h"

enum { COMPLETION_TOKENS = 16, MAX_DEPTH = 128 };
/* The batcher takes 0 for "a random seed" and for "no limit on top_p"; clients mean something else by it. */
static const uint64_t seed_of_zero = 0x9E3779B97F4A7C15u;
static const float least_top_p = 1e-9f;
static const double least_repeat = 0.01, most_repeat = 100.0;

/* ---- getters that note the field ------------------------------------------------------------------------------------ */

static aiinfra_status get_num(aii_params *p, const char *key, double *out, aiinfra_error *err)
{
  p->field = key;
  return aii_json_get_num(p->root, "", key, false, out, err);
}

static aiinfra_status get_int(aii_params *p, const char *key, int64_t *out, aiinfra_error *err)
{
  p->field = key;
  return aii_json_get_int(p->root, "", key, false, out, err);
}

static aiinfra_status get_bool(aii_params *p, const char *key, bool *out, aiinfra_error *err)
{
  p->field = key;
  return aii_json_get_bool(p->root, "", key, false, out, err);
}

/* A string that goes on as a C string: it must not hold a NUL. */
static aiinfra_status take_text(const json_t *value, const char *what, const char **out, aiinfra_error *err)
{
  if (!json_is_string(value))
    return aii_fail(err, AIINFRA_EINVAL, "%s: expected a string, found %s", what, aii_json_type(value));
  if (strlen(json_string_value(value)) != json_string_length(value))
    return aii_fail(err, AIINFRA_EINVAL, "%s: holds a NUL character", what);
  *out = json_string_value(value);
  return AIINFRA_OK;
}

static json_t *member(aii_params *p, const char *key)
{
  p->field = key;
  json_t *value = json_object_get(p->root, key);
  return json_is_null(value) ? NULL : value;
}

/* ---- sampling ------------------------------------------------------------------------------------------------------- */

/* A number that must be neutral, because it asks for what is not there. */
static aiinfra_status must_be(aii_params *p, const char *key, double neutral, aiinfra_error *err)
{
  double value = neutral;
  aiinfra_status rc = get_num(p, key, &value, err);
  if (rc == AIINFRA_OK && value != neutral)
    rc = aii_fail(err, AIINFRA_ENOTSUP, "%s: only %g is supported", key, neutral);
  return rc;
}

static aiinfra_status refuse_unsupported(aii_params *p, aiinfra_error *err)
{
  static const char *const zeros[] = {"top_logprobs"};
  static const char *const ones[] = {"n", "best_of"};
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < AII_COUNT(zeros); i++) rc = must_be(p, zeros[i], 0.0, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < AII_COUNT(ones); i++) rc = must_be(p, ones[i], 1.0, err);
  if (rc != AIINFRA_OK) return rc;
  const json_t *logprobs = member(p, "logprobs");
  if (logprobs != NULL && !json_is_false(logprobs)) return aii_fail(err, AIINFRA_ENOTSUP, "logprobs: not supported");
  return AIINFRA_OK;
}

static aiinfra_status in_range(const char *key, double value, double low, double high, aiinfra_error *err)
{
  if (value >= low && value <= high) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "%s: %g is not between %g and %g", key, value, low, high);
}

static aiinfra_status read_sampling(aii_params *p, aiinfra_error *err)
{
  double temperature = 1.0, top_p = 1.0, min_p = 0.0;
  int64_t top_k = 0;
  aiinfra_status rc = get_num(p, "temperature", &temperature, err);
  if (rc == AIINFRA_OK) rc = in_range(p->field, temperature, 0.0, 2.0, err);
  if (rc == AIINFRA_OK) rc = get_num(p, "top_p", &top_p, err);
  if (rc == AIINFRA_OK) rc = in_range(p->field, top_p, 0.0, 1.0, err);
  if (rc == AIINFRA_OK) rc = get_num(p, "min_p", &min_p, err);
  if (rc == AIINFRA_OK) rc = in_range(p->field, min_p, 0.0, 1.0, err);
  if (rc == AIINFRA_OK) rc = get_int(p, "top_k", &top_k, err);
  if (rc == AIINFRA_OK) rc = in_range(p->field, (double)top_k, -1.0, (double)INT32_MAX, err); /* -1: all */
  if (rc != AIINFRA_OK) return rc;
  p->opts.temperature = (float)temperature;
  p->opts.top_p = (float)top_p > least_top_p ? (float)top_p : least_top_p;
  p->opts.min_p = (float)min_p;
  p->opts.top_k = top_k > 0 ? (int32_t)top_k : 0;
  return AIINFRA_OK;
}

/* OpenAI's penalties. */
static aiinfra_status read_penalties(aii_params *p, aiinfra_error *err)
{
  double presence = 0.0, frequency = 0.0;
  aiinfra_status rc = get_num(p, "presence_penalty", &presence, err);
  if (rc == AIINFRA_OK) rc = in_range(p->field, presence, -2.0, 2.0, err);
  if (rc == AIINFRA_OK) rc = get_num(p, "frequency_penalty", &frequency, err);
  if (rc == AIINFRA_OK) rc = in_range(p->field, frequency, -2.0, 2.0, err);
  p->opts.presence_penalty = (float)presence;
  p->opts.frequency_penalty = (float)frequency;
  return rc;
}

/* What other servers add to them, by two names: repetition_penalty means all tokens, repeat_penalty the last ones. */
static aiinfra_status read_repeats(aii_params *p, aiinfra_error *err)
{
  static const char *const names[] = {"repetition_penalty", "repeat_penalty"};
  bool whole = false, given = false;
  double penalty = 1.0;
  int64_t last_n = 0;
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < AII_COUNT(names); i++) {
    if (member(p, names[i]) == NULL) continue;
    whole = i == 0;
    rc = get_num(p, names[i], &penalty, err);
    if (rc == AIINFRA_OK) rc = in_range(p->field, penalty, least_repeat, most_repeat, err);
  }
  if (rc == AIINFRA_OK) given = member(p, "repeat_last_n") != NULL;
  if (given) rc = get_int(p, "repeat_last_n", &last_n, err);
  if (given && rc == AIINFRA_OK) rc = in_range(p->field, (double)last_n, -1.0, (double)INT32_MAX, err);
  if (rc != AIINFRA_OK) return rc;
  p->opts.repeat_penalty = given && last_n == 0 ? 0.0f : (float)penalty; /* none of the last tokens: off */
  p->opts.penalty_last_n = given ? (int32_t)last_n : whole ? -1 : 0;
  return AIINFRA_OK;
}

/* The batcher reads what is in it. */
static aiinfra_status read_bias(aii_params *p, aiinfra_error *err)
{
  json_t *bias = NULL;
  p->field = "logit_bias";
  aiinfra_status rc = aii_json_get_object(p->root, "", p->field, false, &bias, err);
  if (rc != AIINFRA_OK || json_object_size(bias) == 0) return rc;
  if (!aii_json_dump(bias, &p->bias)) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a copy of the request");
  p->opts.logit_bias = aii_buf_cstr(&p->bias);
  return AIINFRA_OK;
}

static aiinfra_status read_tokens(aii_params *p, aii_endpoint endpoint, aiinfra_error *err)
{
  int64_t n = endpoint == AII_COMPLETION ? COMPLETION_TOKENS : 0;
  bool given = member(p, "max_tokens") != NULL;
  aiinfra_status rc = get_int(p, "max_tokens", &n, err);
  if (rc == AIINFRA_OK && endpoint == AII_CHAT && member(p, "max_completion_tokens") != NULL) {
    given = true;
    rc = get_int(p, "max_completion_tokens", &n, err);
  }
  if (rc != AIINFRA_OK) return rc;
  if (given && (n < 1 || n > UINT32_MAX))
    return aii_fail(err, AIINFRA_EINVAL, "%s: %lld is not between 1 and %u", p->field, (long long)n, UINT32_MAX);
  p->opts.max_tokens = (uint32_t)n;
  return AIINFRA_OK;
}

static aiinfra_status read_seed(aii_params *p, aiinfra_error *err)
{
  int64_t seed = 0;
  if (member(p, "seed") == NULL) return AIINFRA_OK;
  aiinfra_status rc = get_int(p, "seed", &seed, err);
  p->opts.seed = seed != 0 ? (uint64_t)seed : seed_of_zero;
  return rc;
}

static aiinfra_status read_stops(aii_params *p, aiinfra_error *err)
{
  json_t *stop = member(p, "stop");
  aiinfra_status rc = AIINFRA_OK;
  if (stop == NULL) return AIINFRA_OK;
  bool list = json_is_array(stop);
  size_t n = list ? json_array_size(stop) : 1;
  if (!list && !json_is_string(stop))
    return aii_fail(err, AIINFRA_EINVAL, "stop: expected a string or an array of them, found %s", aii_json_type(stop));
  if (n > AII_SERVER_MAX_STOPS)
    return aii_fail(err, AIINFRA_EINVAL, "stop: %zu strings, at most %d are allowed", n, AII_SERVER_MAX_STOPS);
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++)
    rc = take_text(list ? json_array_get(stop, i) : stop, "stop", &p->stops[i], err);
  p->opts.stop = n > 0 ? p->stops : NULL;
  p->opts.n_stop = n;
  return rc;
}

static aiinfra_status read_stream(aii_params *p, aiinfra_error *err)
{
  json_t *options = NULL;
  aiinfra_status rc = get_bool(p, "stream", &p->stream, err);
  if (rc != AIINFRA_OK) return rc;
  p->field = "stream_options";
  rc = aii_json_get_object(p->root, "", p->field, false, &options, err);
  if (rc == AIINFRA_OK && options != NULL)
    rc = aii_json_get_bool(options, p->field, "include_usage", false, &p->include_usage, err);
  return rc;
}

static aiinfra_status read_generation(aii_params *p, aii_endpoint endpoint, aiinfra_error *err)
{
  bool ignore_eos = false;
  aiinfra_status rc = read_sampling(p, err);
  if (rc == AIINFRA_OK) rc = read_penalties(p, err);
  if (rc == AIINFRA_OK) rc = read_repeats(p, err);
  if (rc == AIINFRA_OK) rc = read_bias(p, err);
  if (rc == AIINFRA_OK) rc = read_tokens(p, endpoint, err);
  if (rc == AIINFRA_OK) rc = read_seed(p, err);
  if (rc == AIINFRA_OK) rc = read_stops(p, err);
  if (rc == AIINFRA_OK) rc = read_stream(p, err);
  if (rc == AIINFRA_OK) rc = get_bool(p, "ignore_eos", &ignore_eos, err);
  if (rc == AIINFRA_OK) rc = refuse_unsupported(p, err);
  p->opts.ignore_eos = ignore_eos ? 1 : 0;
  return rc;
}

/* ---- completions ---------------------------------------------------------------------------------------------------- */

static aiinfra_status read_completion(aii_params *p, aiinfra_error *err)
{
  bool echo = false;
  aiinfra_status rc = get_bool(p, "echo", &echo, err);
  if (rc == AIINFRA_OK && echo) return aii_fail(err, AIINFRA_ENOTSUP, "echo: not supported");
  if (rc == AIINFRA_OK && member(p, "suffix") != NULL) return aii_fail(err, AIINFRA_ENOTSUP, "suffix: not supported");
  json_t *prompt = rc == AIINFRA_OK ? member(p, "prompt") : NULL;
  if (json_is_array(prompt) && json_array_size(prompt) == 1) prompt = json_array_get(prompt, 0);
  if (rc == AIINFRA_OK && json_is_array(prompt))
    return aii_fail(err, AIINFRA_ENOTSUP, "prompt: only one string is supported; send one request for each");
  return rc == AIINFRA_OK ? take_text(prompt, "prompt", &p->opts.text, err) : rc;
}

/* ---- embeddings ----------------------------------------------------------------------------------------------------- */

static aiinfra_status read_inputs(aii_params *p, aiinfra_error *err)
{
  json_t *input = member(p, "input");
  bool list = json_is_array(input);
  size_t n = list ? json_array_size(input) : 1;
  if (n == 0 || n > AII_SERVER_MAX_INPUTS)
    return aii_fail(err, AIINFRA_EINVAL, "input: an array of %zu, must have 1 to %d strings", n, AII_SERVER_MAX_INPUTS);
  p->inputs = aii_new_array(p->mem, n, sizeof *p->inputs);
  if (p->inputs == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu inputs", n);
  p->n_inputs = n;
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) {
    rc = take_text(list ? json_array_get(input, i) : input, "input", &p->inputs[i], err);
    if (rc == AIINFRA_OK && p->inputs[i][0] == '\0') rc = aii_fail(err, AIINFRA_EINVAL, "input: text %zu is empty", i);
  }
  return rc;
}

static aiinfra_status read_embedding(aii_params *p, aiinfra_error *err)
{
  const char *format = "float";
  aiinfra_status rc = read_inputs(p, err);
  if (rc != AIINFRA_OK) return rc;
  p->field = "encoding_format";
  rc = aii_json_get_str(p->root, "", p->field, false, &format, err);
  if (rc != AIINFRA_OK) return rc;
  p->base64 = strcmp(format, "base64") == 0;
  if (!p->base64 && strcmp(format, "float") != 0)
    return aii_fail(err, AIINFRA_EINVAL, "encoding_format: must be \"float\" or \"base64\"");
  rc = get_int(p, "dimensions", &p->dimensions, err);
  if (rc == AIINFRA_OK && (p->dimensions < 0 || p->dimensions > INT32_MAX))
    rc = aii_fail(err, AIINFRA_EINVAL, "dimensions: must be a positive number");
  return rc;
}

/* ---- reranking ------------------------------------------------------------------------------------------------------ */

/* Strings, or objects with a text. */
static aiinfra_status read_documents(aii_params *p, aiinfra_error *err)
{
  json_t *list = member(p, "documents");
  size_t n = json_array_size(list);
  if (n == 0 || n > AII_SERVER_MAX_INPUTS)
    return aii_fail(err, AIINFRA_EINVAL, "documents: must be an array of 1 to %d texts", AII_SERVER_MAX_INPUTS);
  p->inputs = aii_new_array(p->mem, n, sizeof *p->inputs);
  if (p->inputs == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu documents", n);
  p->n_inputs = n;
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) {
    const json_t *value = json_array_get(list, i);
    rc = take_text(json_is_object(value) ? json_object_get(value, "text") : value, "documents", &p->inputs[i], err);
  }
  return rc;
}

static aiinfra_status read_rerank(aii_params *p, aiinfra_error *err)
{
  json_t *query = member(p, "query");
  if (query == NULL) return aii_fail(err, AIINFRA_EINVAL, "query: missing");
  aiinfra_status rc = take_text(query, "query", &p->query, err);
  if (rc == AIINFRA_OK) rc = read_documents(p, err);
  if (rc == AIINFRA_OK) rc = get_int(p, "top_n", &p->top_n, err);
  if (rc == AIINFRA_OK && p->top_n < 0) rc = aii_fail(err, AIINFRA_EINVAL, "top_n: must be a positive number");
  return rc == AIINFRA_OK ? get_bool(p, "return_documents", &p->return_documents, err) : rc;
}

/* ---- all ------------------------------------------------------------------------------------------------------------ */

static aiinfra_status read_all(aii_params *p, aii_endpoint endpoint, aiinfra_error *err)
{
  json_t *model = member(p, "model");
  aiinfra_status rc = model != NULL ? take_text(model, "model", &p->model, err) : AIINFRA_OK;
  if (rc != AIINFRA_OK) return rc;
  if (endpoint == AII_EMBEDDING) return read_embedding(p, err);
  if (endpoint == AII_RERANK) return read_rerank(p, err);
  rc = read_generation(p, endpoint, err);
  if (rc != AIINFRA_OK) return rc;
  return endpoint == AII_CHAT ? aii_params_parse_chat(p, err) : read_completion(p, err);
}

aiinfra_status aii_params_parse(aii_params *params, aii_mem *mem, aii_endpoint endpoint, const char *body, size_t n,
                                aiinfra_error *err)
{
  memset(params, 0, sizeof *params);
  params->mem = mem;
  params->opts = (aiinfra_generate_opts)AIINFRA_GENERATE_OPTS_INIT;
  aii_buf_init(&params->messages, mem, 0);
  aii_buf_init(&params->tools, mem, 0);
  aii_buf_init(&params->schema, mem, 0);
  aii_buf_init(&params->variables, mem, 0);
  aii_buf_init(&params->bias, mem, 0);
  aiinfra_status rc = aii_json_parse(body, n, "the body", MAX_DEPTH, &params->root, err);
  if (rc != AIINFRA_OK) return rc;
  if (!json_is_object(params->root))
    return aii_fail(err, AIINFRA_EINVAL, "the body: expected an object, found %s", aii_json_type(params->root));
  return read_all(params, endpoint, err);
}

void aii_params_free(aii_params *params)
{
  if (params->mem == NULL) return;
  aii_buf_free(&params->messages);
  aii_buf_free(&params->tools);
  aii_buf_free(&params->schema);
  aii_buf_free(&params->variables);
  aii_buf_free(&params->bias);
  aii_del(params->mem, params->inputs, params->n_inputs * sizeof *params->inputs);
  json_decref(params->root);
  memset(params, 0, sizeof *params);
}
