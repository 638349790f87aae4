/* stories.h - what the tests of the batcher share: the model stories260K behind a runtime, and answers kept for looking
 * at. The model is a Llama of 260 thousand weights; the text that it gives greedily from BOS was made by another program.
 */
#ifndef AIINFRA_TESTS_API_STORIES_H
#define AIINFRA_TESTS_API_STORIES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "aiinfra/batcher.h"
#include "aiinfra/runtime.h"
#include "support/support.h"

#define STORIES_GGUF "models/stories260K/stories260K.gguf"
#define STORIES_GOLDEN "models/stories260K/expected_greedy_200steps.txt"
#define STORIES_CONTEXT 2048

#define MUST(call) stories_must((call), &stories_err, #call)
static aiinfra_error stories_err;

static inline void stories_must(aiinfra_status rc, const aiinfra_error *err, const char *call)
{
  if (rc == AIINFRA_OK) return;
  print_error("%s: %s: %s\n", call, aiinfra_status_name(rc), err->message);
  fail();
}

typedef struct stories {
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_kv *kv;
  aiinfra_batcher *batcher;
} stories;

/* One request and what came of it. */
typedef struct answer {
  char text[16384];   /* of the result */
  char chunks[16384]; /* of all chunks */
  char tool_calls[2048];
  char message[AIINFRA_ERROR_MESSAGE_MAX];
  aiinfra_token tokens[4096];
  size_t n_tokens, n_chunks;
  aiinfra_result result; /* its pointers are not valid */
  aiinfra_status status;
  int ended;
  aiinfra_request *request;
} answer;

static inline void stories_open_with(stories *s, const aiinfra_runtime_opts *rt_opts, uint64_t kv_bytes,
                                     const aiinfra_batcher_opts *opts)
{
  aiinfra_kv_opts kv_opts = AIINFRA_KV_OPTS_INIT;
  kv_opts.budget_bytes = kv_bytes;
  memset(s, 0, sizeof *s);
  MUST(aiinfra_runtime_create(rt_opts, &s->rt, &stories_err));
  MUST(aiinfra_model_open(s->rt, test_data(STORIES_GGUF), NULL, &s->model, &stories_err));
  MUST(aiinfra_kv_create(s->model, &kv_opts, &s->kv, &stories_err));
  MUST(aiinfra_batcher_create(s->model, s->kv, opts, &s->batcher, &stories_err));
}

static inline void stories_open(stories *s, int32_t n_threads, const aiinfra_batcher_opts *opts)
{
  aiinfra_runtime_opts rt_opts = AIINFRA_RUNTIME_OPTS_INIT;
  rt_opts.n_threads = n_threads;
  stories_open_with(s, &rt_opts, 0, opts);
}

static inline void stories_close(stories *s)
{
  aiinfra_batcher_free(s->batcher);
  aiinfra_kv_free(s->kv);
  aiinfra_model_free(s->model);
  aiinfra_runtime_free(s->rt);
}

static inline void answer_add(char *to, size_t room, const char *text, size_t n)
{
  size_t len = strlen(to);
  assert_true(len + n < room);
  memcpy(to + len, text, n);
  to[len + n] = '\0';
}

static inline void answer_on_chunk(void *user, const aiinfra_chunk *chunk)
{
  answer *a = user;
  assert_int_equal(a->ended, 0);
  assert_int_equal(strlen(chunk->text), chunk->n_bytes);
  answer_add(a->chunks, sizeof a->chunks, chunk->text, chunk->n_bytes);
  assert_true(a->n_tokens + chunk->n_tokens <= sizeof a->tokens / sizeof a->tokens[0]);
  if (chunk->n_tokens > 0) memcpy(a->tokens + a->n_tokens, chunk->tokens, chunk->n_tokens * sizeof *chunk->tokens);
  a->n_tokens += chunk->n_tokens;
  a->n_chunks++;
}

static inline void answer_on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  answer *a = user;
  assert_int_equal(a->ended, 0);
  a->ended++;
  a->status = status;
  a->result = *result;
  answer_add(a->text, sizeof a->text, result->text, result->text_bytes);
  if (result->tool_calls_json != NULL)
    answer_add(a->tool_calls, sizeof a->tool_calls, result->tool_calls_json, strlen(result->tool_calls_json));
  if (result->error != NULL) memcpy(a->message, result->error->message, sizeof a->message);
  assert_true((result->error != NULL) == (status != AIINFRA_OK));
}

static inline answer *answer_new(void)
{
  answer *a = calloc(1, sizeof *a);
  assert_non_null(a);
  return a;
}

static inline void answer_free(answer *a)
{
  aiinfra_request_free(a->request);
  free(a);
}

static inline answer *stories_submit(stories *s, const aiinfra_generate_opts *opts)
{
  answer *a = answer_new();
  MUST(aiinfra_batcher_generate(s->batcher, opts, answer_on_chunk, answer_on_result, a, &a->request, &stories_err));
  assert_int_equal(a->ended, 0); /* never inside the call */
  assert_int_equal(a->n_chunks, 0);
  return a;
}

static inline answer *stories_wait(answer *a)
{
  aiinfra_error err;
  aiinfra_status rc = aiinfra_request_wait(a->request, 60000, &err);
  assert_int_equal(a->ended, 1);
  assert_int_equal(rc, a->status);
  assert_int_equal(aiinfra_request_done(a->request), 1);
  return a;
}

static inline answer *stories_ask(stories *s, const aiinfra_generate_opts *opts)
{
  return stories_wait(stories_submit(s, opts));
}

/* A greedy request for n tokens from a text; the text must stay. */
static inline aiinfra_generate_opts stories_opts(const char *text, uint32_t n)
{
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  opts.text = text;
  opts.max_tokens = n;
  return opts;
}

/* ---- prompts, and what each gives alone ---- */

static const char *const stories_prompts[8] __attribute__((unused)) = {
    "Once upon a time",
    "Lily and Ben went to the park.",
    "The big dog",
    "One day, a little boy named Tim found a shiny red ball under the tree. He was very happy. He",
    "",
    "\"Look, mom!\" said Sue.",
    "It was a sunny day and the cat wanted to play with the bird",
    "Tom had a toy car. He liked to push it. One day",
};

/* Asks all eight prompts one by one, with a fresh batcher and no prefix cache. */
static inline void stories_alone(char texts[8][1024])
{
  aiinfra_batcher_opts opts = AIINFRA_BATCHER_OPTS_INIT;
  opts.prefix_cache = -1;
  stories s;
  stories_open(&s, 1, &opts);
  for (int i = 0; i < 8; i++) {
    aiinfra_generate_opts ask = stories_opts(stories_prompts[i], 60);
    answer *a = stories_ask(&s, &ask);
    assert_int_equal(a->status, AIINFRA_OK);
    assert_int_equal(a->result.n_cached, 0);
    snprintf(texts[i], 1024, "%.1023s", a->text);
    answer_free(a);
  }
  stories_close(&s);
}

#endif
