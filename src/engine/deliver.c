/* deliver.c - what the host gets to see: chunks while a request runs, one result when it ends.
 *
 * aii_gen_take_token() turns a sampled token into text and decides whether it ends the sequence, before the next plan
 * is made; aii_gen_deliver() calls the host back, after the next job is on its way. Loop thread.
 */
#include "src/engine/engine.h"

/* ---- a token ----------------------------------------------------------------------------------------------------- */

aiinfra_status aii_gen_take_token(aii_gen *gen, aii_plan_result *result, uint64_t now_ns)
{
  aii_seq *seq = &gen->seq;
  aiinfra_error err;
  aii_meter_token(gen, now_ns);
  gen->last_token_ns = now_ns;
  bool ends = !gen->ignore_eos && aii_vocab_is_eog(gen->batcher->model->vocab, result->token);
  aiinfra_status rc = AIINFRA_OK;
  if (!aii_grow(&gen->batcher->rt->mem, &seq->tokens, &gen->cap_tokens, (size_t)seq->n_tokens + 1, sizeof *seq->tokens))
    rc = aii_fail(&err, AIINFRA_ENOMEM, "no memory for %u tokens", seq->n_tokens + 1);
  if (rc == AIINFRA_OK && !ends) rc = aii_stream_push(&gen->stream, result->token, &err);
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

static void call_chunk(aii_gen *gen)
{
  aii_seq *seq = &gen->seq;
  aii_stream *stream = &gen->stream;
  uint32_t n_generated = generated(seq);
  bool more_text = stream->n_ready > stream->n_sent;
  if (gen->on_chunk == NULL || (!more_text && n_generated == gen->n_sent_tokens)) return;
  aiinfra_chunk chunk = {.text = "", .n_tokens = n_generated - gen->n_sent_tokens};
  if (chunk.n_tokens > 0) chunk.tokens = seq->tokens + seq->n_prompt + gen->n_sent_tokens;
  char behind = '\0', *end = NULL;
  if (more_text) {
    chunk.text = stream->text.data + stream->n_sent;
    chunk.n_bytes = stream->n_ready - stream->n_sent;
    end = stream->text.data + stream->n_ready;
    behind = *end;
    *end = '\0';
    stream->n_sent = stream->n_ready;
  }
  gen->n_sent_tokens = n_generated;
  aii_loop_enter(gen->batcher->rt->loop);
  gen->on_chunk(gen->user, &chunk);
  aii_loop_leave(gen->batcher->rt->loop);
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

/* Moves tool calls out of the text; true when there are any. Text that only looks like a call stays text. */
static bool take_calls(aii_gen *gen, aii_buf *calls)
{
  aii_mem *mem = &gen->batcher->rt->mem;
  aii_stream *stream = &gen->stream;
  aii_buf content;
  aiinfra_error err;
  if (gen->tool_syntax == NULL || (gen->seq.end != AII_END_STOP && gen->seq.end != AII_END_LENGTH)) return false;
  aii_buf_init(&content, mem, 0);
  aiinfra_status rc =
      aii_output_parse(mem, aii_buf_cstr(&stream->text), stream->text.len, gen->tool_syntax, &content, calls, &err);
  if (rc == AIINFRA_OK && (content.failed || calls->failed))
    rc = aii_fail(&err, AIINFRA_ENOMEM, "no memory for the tool calls");
  if (rc != AIINFRA_OK || calls->len == 0) {
    if (rc == AIINFRA_ENOMEM) aii_gen_fail(gen, rc, &err);
    aii_buf_free(&content);
    return false;
  }
  aii_buf_free(&stream->text);
  stream->text = content;
  stream->n_ready = content.len;
  stream->n_sent = AII_MIN(stream->n_sent, content.len);
  return true;
}

static void call_result(aii_gen *gen, aiinfra_status status, aiinfra_finish finish, const char *calls, uint64_t now_ns)
{
  const aii_seq *seq = &gen->seq;
  aiinfra_result result = {.text = aii_buf_cstr(&gen->stream.text),
                           .text_bytes = gen->stream.text.len,
                           .tool_calls_json = calls,
                           .error = status == AIINFRA_OK ? NULL : &gen->error,
                           .n_prompt = seq->n_prompt,
                           .n_cached = seq->n_cached,
                           .n_generated = generated(seq),
                           .finish = (int32_t)finish};
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

static aiinfra_status end_generation(aii_gen *gen, aiinfra_finish *finish)
{
  aii_buf calls;
  aii_buf_init(&calls, &gen->batcher->rt->mem, 0);
  aii_stream_finish(&gen->stream);
  if (gen->stream.text.failed && gen->status == AIINFRA_OK) {
    gen->status = aii_fail(&gen->error, AIINFRA_ENOMEM, "no memory for the output's text");
  }
  bool has_calls = take_calls(gen, &calls);
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
