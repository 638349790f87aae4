/* deliver.c - what the host gets to see: chunks while a request runs, one result when it ends.
 *
 * aii_gen_take_token() turns a sampled token into text and decides whether it ends the sequence, before the next plan
 * is made; aii_gen_deliver() calls the host back, after the next job is on its way. Loop thread.
 */
#include "src/engine/engine.h"

/* ---- a token ----------------------------------------------------------------------------------------------------- */

/* Hands what may be shown to the parser. */
static aiinfra_status feed(aii_gen *gen, aiinfra_error *err)
{
  aii_stream *stream = &gen->stream;
  if (gen->output == NULL || stream->n_sent >= stream->n_ready) return AIINFRA_OK;
  size_t from = stream->n_sent;
  stream->n_sent = stream->n_ready;
  return aii_output_push(gen->output, stream->text.data + from, stream->n_ready - from, err);
}

/* Whether the token's text counts though it is a control token: asked for, or part of what the parser looks for. */
static bool counts(const aii_gen *gen, aiinfra_token token)
{
  if (gen->want_special || gen->output == NULL) return gen->want_special;
  aii_str text = aii_vocab_piece(gen->batcher->model->vocab, token, true);
  return aii_vocab_piece(gen->batcher->model->vocab, token, false).n == 0 &&
         aii_output_wants(gen->output, text.p, text.n);
}

aiinfra_status aii_gen_take_token(aii_gen *gen, aii_plan_result *result, uint64_t now_ns)
{
  aii_seq *seq = &gen->seq;
  aiinfra_error err;
  aii_meter_token(gen, now_ns);
  gen->last_token_ns = now_ns;
  bool ends = aii_gen_ends_with(gen, gen->batcher->model->vocab, result->token);
  aiinfra_status rc = AIINFRA_OK;
  if (!aii_grow(&gen->batcher->rt->mem, &seq->tokens, &gen->cap_tokens, (size_t)seq->n_tokens + 1, sizeof *seq->tokens))
    rc = aii_fail(&err, AIINFRA_ENOMEM, "no memory for %u tokens", seq->n_tokens + 1);
  if (rc == AIINFRA_OK && !ends) rc = aii_stream_push(&gen->stream, result->token, counts(gen, result->token), &err);
  if (rc == AIINFRA_OK) rc = feed(gen, &err);
  if (rc != AIINFRA_OK) aii_gen_fail(gen, rc, &err);
  result->failed = rc != AIINFRA_OK;
  result->stop = result->stop || ends || gen->stream.stopped;
  return rc;
}

/* ---- chunks ------------------------------------------------------------------------------------------------------ */

static uint32_t generated(const aii_seq *seq)
{
  return seq->n_tokens > seq->n_prompt ? seq->n_tokens - seq->n_prompt : 0;
}

static void tell(aii_gen *gen, aiinfra_chunk *chunk)
{
  aii_seq *seq = &gen->seq;
  uint32_t n_generated = generated(seq);
  if (chunk->text == NULL) chunk->text = "";
  if (chunk->reasoning == NULL) chunk->reasoning = "";
  chunk->n_tokens = n_generated - gen->n_sent_tokens;
  if (chunk->n_tokens > 0) chunk->tokens = seq->tokens + seq->n_prompt + gen->n_sent_tokens;
  if (chunk->n_bytes == 0 && chunk->reasoning_bytes == 0 && chunk->call == NULL && chunk->n_tokens == 0) return;
  gen->n_sent_tokens = n_generated;
  aii_loop_enter(gen->batcher->rt->loop);
  gen->on_chunk(gen->user, chunk);
  aii_loop_leave(gen->batcher->rt->loop);
}

/* Content and reasoning in one chunk, each piece of a call in one of its own. */
static void tell_parsed(aii_gen *gen)
{
  aiinfra_chunk chunk = {0};
  aii_output_delta delta;
  bool any = false;
  while (aii_output_next(gen->output, &delta)) {
    any = true;
    if (delta.kind == AII_OUT_CONTENT) {
      chunk.text = delta.text;
      chunk.n_bytes = delta.n;
    } else if (delta.kind == AII_OUT_REASONING) {
      chunk.reasoning = delta.text;
      chunk.reasoning_bytes = delta.n;
    } else {
      aiinfra_call_delta call = {delta.id, delta.name, delta.text, delta.n, delta.index};
      chunk.call = &call;
      tell(gen, &chunk);
      chunk = (aiinfra_chunk){0};
      any = false;
    }
  }
  if (any || generated(&gen->seq) > gen->n_sent_tokens) tell(gen, &chunk);
}

static void call_chunk(aii_gen *gen)
{
  aii_stream *stream = &gen->stream;
  aiinfra_chunk chunk = {0};
  char behind = '\0', *end = NULL;
  if (gen->on_chunk == NULL) return;
  if (gen->output != NULL) {
    tell_parsed(gen);
    return;
  }
  if (stream->n_ready > stream->n_sent) {
    chunk.text = stream->text.data + stream->n_sent;
    chunk.n_bytes = stream->n_ready - stream->n_sent;
    end = stream->text.data + stream->n_ready;
    behind = *end;
    *end = '\0';
    stream->n_sent = stream->n_ready;
  }
  tell(gen, &chunk);
  if (end != NULL) *end = behind;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

static aiinfra_status status_of(aii_gen *gen)
{
  switch (gen->seq.end) {
    case AII_END_STOP:
    case AII_END_LENGTH: return gen->status;
    case AII_END_TIMEOUT: return aii_fail(&gen->error, AIINFRA_ETIMEDOUT, "the request's deadline passed");
    case AII_END_ERROR: return gen->status;
    case AII_END_CANCELED:
    case AII_END_NONE: break;
  }
  return aii_fail(&gen->error, AIINFRA_ECANCELED, "the request was cancelled");
}

static aiinfra_finish finish_of(const aii_gen *gen, bool calls)
{
  if (gen->status != AIINFRA_OK) return AIINFRA_FINISH_NONE;
  switch (gen->seq.end) {
    case AII_END_STOP: return calls ? AIINFRA_FINISH_TOOL : AIINFRA_FINISH_STOP;
    case AII_END_LENGTH: return calls ? AIINFRA_FINISH_TOOL : AIINFRA_FINISH_LENGTH;
    case AII_END_CANCELED:
    case AII_END_TIMEOUT: return AIINFRA_FINISH_CANCELED;
    case AII_END_ERROR:
    case AII_END_NONE: break;
  }
  return AIINFRA_FINISH_NONE;
}

static void call_result(aii_gen *gen, aiinfra_status status, aiinfra_finish finish, const char *calls, uint64_t now_ns)
{
  const aii_seq *seq = &gen->seq;
  aiinfra_result result = {.text = aii_buf_cstr(&gen->stream.text),
                           .text_bytes = gen->stream.text.len,
                           .reasoning = "",
                           .tool_calls_json = calls,
                           .error = status == AIINFRA_OK ? NULL : &gen->error,
                           .n_prompt = seq->n_prompt,
                           .n_cached = seq->n_cached,
                           .n_generated = generated(seq),
                           .finish = (int32_t)finish};
  if (gen->output != NULL) {
    result.text = aii_output_content(gen->output, &result.text_bytes);
    result.reasoning = aii_output_reasoning(gen->output, &result.reasoning_bytes);
    result.cut_call = aii_output_cut(gen->output);
  }
  uint64_t first_step_ns = seq->first_step_ns != 0 ? seq->first_step_ns : now_ns;
  uint64_t first_token_ns = seq->first_token_ns != 0 ? seq->first_token_ns : now_ns;
  result.queue_ns = first_step_ns - seq->submitted_ns;
  result.prefill_ns = first_token_ns - first_step_ns;
  result.decode_ns = now_ns - first_token_ns;
  if (gen->on_result == NULL) return;
  aii_loop_enter(gen->batcher->rt->loop);
  gen->on_result(gen->user, status, &result);
  aii_loop_leave(gen->batcher->rt->loop);
}

/* The last of the text, and the calls in it: complete ones, when none was cut off. */
static aiinfra_status finish_output(aii_gen *gen, aii_buf *calls, aiinfra_error *err)
{
  aii_stream_finish(&gen->stream);
  if (gen->stream.text.failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for the output's text");
  if (gen->output == NULL) return AIINFRA_OK;
  aiinfra_status rc = feed(gen, err);
  if (rc == AIINFRA_OK) rc = aii_output_finish(gen->output, err);
  bool ended = gen->seq.end == AII_END_STOP || gen->seq.end == AII_END_LENGTH;
  if (rc != AIINFRA_OK || !ended || aii_output_cut(gen->output) || aii_output_calls(gen->output) == 0) return rc;
  aii_output_calls_json(gen->output, calls);
  return calls->failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for the tool calls") : AIINFRA_OK;
}

static aiinfra_status end_generation(aii_gen *gen, aiinfra_finish *finish)
{
  aii_buf calls;
  aiinfra_error err;
  aii_buf_init(&calls, &gen->batcher->rt->mem, 0);
  aiinfra_status rc = finish_output(gen, &calls, &err);
  if (rc != AIINFRA_OK && gen->status == AIINFRA_OK) aii_gen_fail(gen, rc, &err);
  bool has_calls = rc == AIINFRA_OK && calls.len > 0;
  call_chunk(gen);
  aiinfra_status status = status_of(gen);
  *finish = finish_of(gen, has_calls);
  call_result(gen, status, *finish, has_calls ? aii_buf_cstr(&calls) : NULL, aii_now_ns());
  aii_buf_free(&calls);
  return status;
}

static void end(aii_gen *gen)
{
  aiinfra_request *request = gen->request;
  aiinfra_finish finish;
  aiinfra_status status;
  if (gen->seq.embed) {
    status = status_of(gen);
    finish = finish_of(gen, false);
    aii_group_take(gen, status);
  } else {
    status = end_generation(gen, &finish);
  }
  aii_meter_end(gen, finish, aii_now_ns());
  aii_gen_free(gen);
  if (request != NULL) aii_request_end(request, status);
}

void aii_gen_deliver(aii_gen *gen)
{
  if (gen->phase == AII_GEN_ENDED) end(gen);
  else call_chunk(gen);
}
