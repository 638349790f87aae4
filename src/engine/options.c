/* options.c - what the host asked for, checked and copied: sizes bounded, numbers sane, exactly one prompt.
 *
 * Strings are borrowed from the host while the gen is prepared inside the submitting call, and copied only when that
 * happens on libuv's pool. Loop thread.
 */
#include <math.h>

#include "src/engine/engine.h"

/* ---- checks ----------------------------------------------------------------------------------------------------- */

static aiinfra_status check_sampling(const aiinfra_generate_opts *o, aiinfra_error *err)
{
  if (!isfinite(o->temperature) || o->temperature < 0.0f)
    return aii_fail(err, AIINFRA_EINVAL, "temperature is %g, must be 0 (greedy) or more", (double)o->temperature);
  if (o->top_k < 0) return aii_fail(err, AIINFRA_EINVAL, "top_k is %d, must be 0 (all) or more", o->top_k);
  if (!(o->top_p >= 0.0f && o->top_p <= 1.0f))
    return aii_fail(err, AIINFRA_EINVAL, "top_p is %g, must lie between 0 (all) and 1", (double)o->top_p);
  if (!(o->min_p >= 0.0f && o->min_p <= 1.0f))
    return aii_fail(err, AIINFRA_EINVAL, "min_p is %g, must lie between 0 (none) and 1", (double)o->min_p);
  return AIINFRA_OK;
}

static bool is_penalty(float value)
{
  return value >= -2.0f && value <= 2.0f;
}

static aiinfra_status check_penalties(const aiinfra_generate_opts *o, aiinfra_error *err)
{
  if (!isfinite(o->repeat_penalty) || o->repeat_penalty < 0.0f)
    return aii_fail(err, AIINFRA_EINVAL, "repeat_penalty is %g, must be 0 (none) or more", (double)o->repeat_penalty);
  if (o->penalty_last_n < -1)
    return aii_fail(err, AIINFRA_EINVAL, "penalty_last_n is %d, must be -1 (all) or more", o->penalty_last_n);
  if (!is_penalty(o->presence_penalty))
    return aii_fail(err, AIINFRA_EINVAL, "presence_penalty is %g, must lie between -2 and 2",
                    (double)o->presence_penalty);
  if (!is_penalty(o->frequency_penalty))
    return aii_fail(err, AIINFRA_EINVAL, "frequency_penalty is %g, must lie between -2 and 2",
                    (double)o->frequency_penalty);
  return aii_check_text(o->logit_bias, "logit_bias", err);
}

static bool is_flag(int32_t value)
{
  return value == 0 || value == 1;
}

aiinfra_status aii_check_text(const char *text, const char *field, aiinfra_error *err)
{
  if (text != NULL && strnlen(text, AII_MAX_PROMPT_BYTES + 1) > AII_MAX_PROMPT_BYTES)
    return aii_fail(err, AIINFRA_EINVAL, "%s is longer than %d bytes", field, AII_MAX_PROMPT_BYTES);
  return AIINFRA_OK;
}

static aiinfra_status check_prompt(const aii_gen *gen, const aiinfra_generate_opts *o, aiinfra_error *err)
{
  int n = (o->tokens != NULL || o->n_tokens > 0) + (o->text != NULL) + (o->messages_json != NULL);
  if (n != 1)
    return aii_fail(err, AIINFRA_EINVAL, "%s of tokens, text and messages_json is set; set exactly one",
                    n == 0 ? "none" : "more than one");
  if ((o->tokens == NULL) != (o->n_tokens == 0))
    return aii_fail(err, AIINFRA_EINVAL, "tokens needs n_tokens, and n_tokens needs tokens");
  if (o->n_tokens >= gen->batcher->max_total)
    return aii_fail(err, AIINFRA_EINVAL, "the prompt has %zu tokens, which leaves no room in a context of %u",
                    o->n_tokens, gen->batcher->max_total);
  uint32_t n_vocab = aii_vocab_size(gen->batcher->model->vocab);
  for (size_t i = 0; i < o->n_tokens; i++)
    if (o->tokens[i] < 0 || (uint32_t)o->tokens[i] >= n_vocab)
      return aii_fail(err, AIINFRA_EINVAL, "tokens[%zu] is %d, the vocabulary has %u tokens", i, o->tokens[i], n_vocab);
  return AIINFRA_OK;
}

static aiinfra_status check_tools(const aiinfra_generate_opts *o, aiinfra_error *err)
{
  const char *choice = o->tool_choice;
  bool idle = choice == NULL || strcmp(choice, "none") == 0 || strcmp(choice, "auto") == 0;
  if (o->tools_json == NULL && !idle)
    return aii_fail(err, AIINFRA_EINVAL, "tool_choice \"%.64s\" needs tools_json", choice);
  if (o->tools_json != NULL && o->json_schema != NULL && (choice == NULL || strcmp(choice, "none") != 0))
    return aii_fail(err, AIINFRA_ENOTSUP, "json_schema and tools at once: set tool_choice to \"none\" for the schema");
  if (o->quotes_json != NULL && o->json_schema != NULL)
    return aii_fail(err, AIINFRA_ENOTSUP, "json_schema and quotes_json at once: JSON does not quote sentences");
  return AIINFRA_OK;
}

static aiinfra_status check(const aii_gen *gen, const aiinfra_generate_opts *o, aiinfra_error *err)
{
  aiinfra_status rc = check_prompt(gen, o, err);
  if (rc == AIINFRA_OK) rc = check_sampling(o, err);
  if (rc == AIINFRA_OK) rc = check_penalties(o, err);
  if (rc == AIINFRA_OK) rc = check_tools(o, err);
  if (rc == AIINFRA_OK) rc = aii_check_text(o->text, "text", err);
  if (rc == AIINFRA_OK) rc = aii_check_text(o->messages_json, "messages_json", err);
  if (rc == AIINFRA_OK) rc = aii_check_text(o->tools_json, "tools_json", err);
  if (rc == AIINFRA_OK) rc = aii_check_text(o->tool_choice, "tool_choice", err);
  if (rc == AIINFRA_OK) rc = aii_check_text(o->json_schema, "json_schema", err);
  if (rc == AIINFRA_OK) rc = aii_check_text(o->variables_json, "variables_json", err);
  if (rc == AIINFRA_OK) rc = aii_check_text(o->quotes_json, "quotes_json", err);
  if (rc != AIINFRA_OK) return rc;
  if (!is_flag(o->ignore_eos) || !is_flag(o->want_special))
    return aii_fail(err, AIINFRA_EINVAL, "ignore_eos and want_special must be 0 or 1");
  if (o->n_stop > AII_MAX_STOPS || (o->n_stop > 0 && o->stop == NULL))
    return aii_fail(err, AIINFRA_EINVAL, "%zu stop strings%s; at most %d are allowed", o->n_stop,
                    o->stop == NULL ? ", but stop is NULL" : "", AII_MAX_STOPS);
  return AIINFRA_OK;
}

/* ---- copies ----------------------------------------------------------------------------------------------------- */

uint64_t aii_deadline(uint64_t deadline_ms)
{
  if (deadline_ms == 0) return 0;
  uint64_t now_ns = aii_now_ns(), most_ms = (UINT64_MAX - now_ns) / 1000000u;
  return now_ns + AII_MIN(deadline_ms, most_ms) * 1000000u;
}

static aiinfra_status copy_tokens(aii_gen *gen, const aiinfra_generate_opts *o, aiinfra_error *err)
{
  if (o->n_tokens == 0) return AIINFRA_OK;
  if (!aii_grow(&gen->batcher->rt->mem, &gen->seq.tokens, &gen->cap_tokens, o->n_tokens + 1, sizeof *gen->seq.tokens))
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu tokens", o->n_tokens);
  memcpy(gen->seq.tokens, o->tokens, o->n_tokens * sizeof *o->tokens);
  gen->seq.n_prompt = (uint32_t)o->n_tokens;
  return AIINFRA_OK;
}

aiinfra_status aii_gen_load(aii_gen *gen, const aiinfra_generate_opts *opts, aiinfra_error *err)
{
  aiinfra_generate_opts o;
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, want_special, err);
  if (rc == AIINFRA_OK) rc = check(gen, &o, err);
  if (rc == AIINFRA_OK) rc = copy_tokens(gen, &o, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < o.n_stop; i++) rc = aii_stream_add_stop(&gen->stream, o.stop[i], err);
  if (rc != AIINFRA_OK) return rc;
  bool none = o.tool_choice != NULL && strcmp(o.tool_choice, "none") == 0;
  gen->input = (aii_gen_input){.text = o.text,
                               .messages_json = o.messages_json,
                               .tools_json = none ? NULL : o.tools_json,
                               .tool_choice = o.tool_choice,
                               .json_schema = o.json_schema,
                               .variables_json = o.variables_json,
                               .logit_bias = o.logit_bias,
                               .quotes_json = o.quotes_json};
  gen->sampling = (aii_sampling){.temperature = o.temperature, .top_k = o.top_k, .top_p = o.top_p, .min_p = o.min_p};
  gen->penalties = (aii_penalties){.repeat = o.repeat_penalty,
                                   .last_n = o.penalty_last_n,
                                   .presence = o.presence_penalty,
                                   .frequency = o.frequency_penalty};
  gen->sampling.seed = o.seed != 0 ? o.seed : aii_rng_u64(&gen->batcher->rng);
  gen->max_tokens = o.max_tokens;
  gen->ignore_eos = o.ignore_eos == 1;
  gen->want_special = o.want_special == 1;
  gen->seq.priority = o.priority;
  gen->seq.deadline_ns = aii_deadline(o.deadline_ms);
  gen->seq.no_cache = gen->batcher->opts.prefix_cache < 0;
  return AIINFRA_OK;
}

size_t aii_gen_input_bytes(const aii_gen *gen)
{
  const aii_gen_input *in = &gen->input;
  const char *texts[] = {in->text,  in->messages_json,  in->tools_json, in->json_schema,
                         in->query, in->variables_json, in->logit_bias, in->quotes_json};
  size_t n = 0;
  for (size_t i = 0; i < AII_COUNT(texts); i++) n += texts[i] != NULL ? strlen(texts[i]) : 0;
  return n;
}

aiinfra_status aii_gen_own_input(aii_gen *gen, aiinfra_error *err)
{
  aii_mem *mem = &gen->batcher->rt->mem;
  const char **fields[] = {&gen->input.text,        &gen->input.messages_json, &gen->input.tools_json,
                           &gen->input.tool_choice, &gen->input.json_schema,   &gen->input.variables_json,
                           &gen->input.logit_bias,  &gen->input.quotes_json};
  bool failed = false;
  gen->input.owned = true;
  for (size_t i = 0; i < AII_COUNT(fields); i++) {
    if (*fields[i] == NULL) continue;
    *fields[i] = failed ? NULL : aii_strdup(mem, *fields[i]);
    failed = failed || *fields[i] == NULL;
  }
  return failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a copy of the prompt") : AIINFRA_OK;
}

void aii_gen_drop_input(aii_gen *gen)
{
  aii_gen_input *in = &gen->input;
  const char *texts[] = {in->text,        in->messages_json,  in->tools_json, in->tool_choice,
                         in->json_schema, in->variables_json, in->logit_bias, in->quotes_json};
  for (size_t i = 0; in->owned && i < AII_COUNT(texts); i++)
    aii_strfree(&gen->batcher->rt->mem, (char *)(uintptr_t)texts[i]);
  memset(in, 0, sizeof *in);
}
