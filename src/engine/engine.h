/* src/engine/engine.h - the batcher: turns submissions into sequences, plans into forward passes, tokens into callbacks.
 *
 *   generate() ─> gen: options checked, prompt tokenised, grammar compiled (long ones on libuv's pool)
 *        └─> scheduler ─> turn: plan ─> job on the runtime's worker: copies, forward, mask, sample
 *                 ^                        └─> done on the loop: text, stop strings ─> scheduler ─> next plan
 *                 └──────────────────────────────────────────────────────────────────────┘    └─> callbacks
 *
 * Invariants:
 *  1. At most one job is out. While it is, the worker alone touches the samplers and grammar states of its sequences;
 *     everything else belongs to the loop's thread.
 *  2. Host callbacks run in aii_batcher_turn() only, which a posted task or a finished job calls: never inside a call
 *     of the host. The next job is on its way before they run.
 *  3. A gen is freed right after its terminal callback; until then it holds the loop.
 *  4. A batcher ends when its handle was given up, no gen is open, no job is out and no turn is posted.
 */
#ifndef AII_ENGINE_H
#define AII_ENGINE_H

#include "aiinfra/batcher.h"
#include "lib/base/base.h"
#include "lib/loop/loop.h"
#include "src/kv/kv.h"
#include "src/model/model.h"
#include "src/runtime/runtime.h"
#include "src/sched/sched.h"
#include "src/text/text.h"

enum {
  AII_MAX_STOPS = 16,
  AII_MAX_STOP_BYTES = 512,        /* of one stop string */
  AII_MAX_PROMPT_BYTES = 64 << 20, /* of each text of a submission */
  AII_MAX_INLINE_BYTES = 64 << 10  /* more than this is tokenised and compiled off the loop's thread */
};

/* ---- stream: from tokens to text that may be shown (stream.c) --------------------------------------------------- */

typedef struct aii_stream {
  aii_mem *mem;
  aii_detok detok;
  aii_buf text;   /* all output so far; never holds a stop string once push or finish has returned */
  size_t n_ready; /* bytes of it that can no longer become part of a stop string */
  size_t n_sent;  /* bytes of these that the host has */
  char *stops[AII_MAX_STOPS];
  size_t n_stops;
  size_t longest; /* bytes of the longest stop string */
  bool stopped;
} aii_stream;

void aii_stream_init(aii_stream *stream, aii_mem *mem);
void aii_stream_free(aii_stream *stream);
/* EINVAL: empty, too long or no UTF-8. */
aiinfra_status aii_stream_add_stop(aii_stream *stream, const char *stop, aiinfra_error *err);
/* Call before the first push. */
void aii_stream_start(aii_stream *stream, const aii_vocab *vocab, bool first_in_text);
/* Adds a token's text; sets `stopped` when a stop string came up, which is then cut off with all behind it.
 * control: the text of a control token counts. */
aiinfra_status aii_stream_push(aii_stream *stream, aiinfra_token token, bool control, aiinfra_error *err);
void aii_stream_finish(aii_stream *stream); /* no more tokens: all text is ready */

/* ---- gen: one request --------------------------------------------------------------------------------------------- */

typedef enum aii_gen_phase {
  AII_GEN_PREPARING = 0, /* being built, perhaps on libuv's pool */
  AII_GEN_SCHEDULED,     /* the scheduler has it */
  AII_GEN_ENDED          /* its terminal callback is due */
} aii_gen_phase;

/* What the host wrote, until it has become tokens and a grammar. */
typedef struct aii_gen_input {
  const char *text, *messages_json, *tools_json, *tool_choice, *json_schema, *variables_json;
  bool owned; /* copies, to be freed */
} aii_gen_input;

typedef struct aii_gen {
  aii_seq seq;
  aiinfra_batcher *batcher;
  aiinfra_request *request;
  struct aii_gen *prev, *next; /* open ones */
  struct aii_gen *out_next;    /* those with something to deliver */
  bool queued;
  aii_gen_phase phase;
  bool cancel_asked, counted;
  size_t cap_tokens; /* room in seq.tokens */
  aii_gen_input input;
  aii_sampling sampling;
  uint32_t max_tokens;
  bool ignore_eos, want_special;
  aii_grammar *grammar;
  aii_grammar_state *grammar_state;
  aii_sampler *sampler;
  aii_stream stream;
  aii_output *output; /* takes the text apart: content, reasoning, calls; NULL: all of it is content */
  uint32_t n_sent_tokens;
  uint64_t last_token_ns;
  double *sum;           /* embedding: the sum of hidden states, [n_embd] */
  float *vector;         /* and what becomes of it */
  aiinfra_status status; /* of the end; AIINFRA_OK until something failed */
  aiinfra_error error;
  aiinfra_chunk_cb on_chunk;
  aiinfra_result_cb on_result;
  aiinfra_embed_cb on_vector;
  void *user;
} aii_gen;

/* gen.c: birth, queue and end. All on the loop's thread. */
aii_gen *aii_gen_new(aiinfra_batcher *batcher, void *user, aiinfra_error *err); /* open; NULL: ENOMEM */
void aii_gen_free(aii_gen *gen);
/* Prepares here or on the pool, then hands it to the scheduler. On failure the caller frees the gen. */
aiinfra_status aii_gen_start(aii_gen *gen, aiinfra_request **request, aiinfra_error *err);
void aii_gen_cancel(void *gen);
void aii_gen_fail(aii_gen *gen, aiinfra_status status, const aiinfra_error *err);

/* options.c: checks and copies what the host asked for. */
aiinfra_status aii_gen_load(aii_gen *gen, const aiinfra_generate_opts *opts, aiinfra_error *err);
aiinfra_status aii_gen_load_embed(aii_gen *gen, const char *text, aiinfra_error *err);
aiinfra_status aii_gen_own_input(aii_gen *gen, aiinfra_error *err);
void aii_gen_drop_input(aii_gen *gen);
size_t aii_gen_input_bytes(const aii_gen *gen);

/* prepare.c: prompt to tokens, schema and tools to a grammar. Any thread; touches nothing but the gen. */
aiinfra_status aii_gen_prepare(aii_gen *gen, aiinfra_error *err);

/* deliver.c: callbacks to the host. */
aiinfra_status aii_gen_take_token(aii_gen *gen, aii_plan_result *result, uint64_t now_ns); /* text of a sampled token */
void aii_gen_deliver(aii_gen *gen); /* new output; the result and the end, when it has ended: the gen is gone then */

/* ---- pass: one forward pass (pass.c) ------------------------------------------------------------------------------ */

typedef struct aii_pass {
  aii_job job;
  bool out;
  const aii_plan *plan;
  aii_plan_result *results; /* [max_running] */
  aiinfra_token *tokens;    /* [max_rows], as the next three */
  uint32_t *pos, *seq, *hidden_rows;
  const uint32_t **tables; /* [max_running] */
  uint32_t *logit_rows;    /* [max_running] */
  float *logits;           /* [max_running][n_vocab] */
  float *hidden;           /* [max_rows][n_embd]; NULL until an embedding is asked for */
  aii_workspace *ws;
  aii_forward forward;
  aiinfra_status status; /* of the whole pass */
  aiinfra_error error;
  uint64_t busy_ns;
} aii_pass;

aiinfra_status aii_pass_create(aiinfra_batcher *batcher, aiinfra_error *err);
void aii_pass_destroy(aiinfra_batcher *batcher);
aiinfra_status aii_pass_want_hidden(aiinfra_batcher *batcher, aiinfra_error *err);
void aii_pass_submit(aiinfra_batcher *batcher, const aii_plan *plan);

/* ---- metrics (meter.c) -------------------------------------------------------------------------------------------- */

typedef struct aii_meter {
  aii_metric *running, *waiting, *kv_usage, *preemptions, *prompt_tokens, *generated_tokens, *prefix_queries,
      *prefix_hits;
  aii_metric *first_token, *inter_token, *queue_time, *latency;
  aii_metric *ended[5];          /* by end_names */
  uint32_t n_running, n_waiting; /* as last told */
  uint64_t n_preemptions;
} aii_meter;
void aii_meter_open(aiinfra_batcher *batcher);
void aii_meter_plan(aiinfra_batcher *batcher);
void aii_meter_start(aii_gen *gen);                  /* its first rows were computed */
void aii_meter_token(aii_gen *gen, uint64_t now_ns); /* it sampled a token */
void aii_meter_end(const aii_gen *gen, aiinfra_finish finish, uint64_t now_ns);

/* ---- the batcher (batcher.c) ---------------------------------------------------------------------------------------- */

struct aiinfra_batcher {
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_kv *kv;
  aiinfra_batcher_opts opts; /* defaults filled in */
  aii_sched *sched;
  aii_pass pass;
  aii_meter meter;
  aii_task turn;
  bool turn_posted, in_turn, closing;
  aii_timer *timer;
  uint64_t timer_ns; /* the deadline it is set to; 0: none */
  aii_gen *open, *out_head, *out_tail;
  uint32_t n_open;
  uint32_t n_users;   /* agents and servers that keep it alive */
  uint32_t max_total; /* longest sequence: the model's context, or what the cache holds */
  aii_rng rng;
  aiinfra_close_cb closed;
  void *closed_user;
  aiinfra_batcher_stats stats;
};

aiinfra_status aii_batcher_create(aiinfra_model *model, aiinfra_kv *kv, const aiinfra_batcher_opts *opts,
                                  aiinfra_batcher **out, aiinfra_error *err);
void aii_batcher_close(aiinfra_batcher *batcher, aiinfra_close_cb closed, void *user);
/* A child keeps the batcher alive: also after it was closed, when it only answers ECLOSED. Loop thread. */
void aii_batcher_ref(aiinfra_batcher *batcher);
void aii_batcher_unref(aiinfra_batcher *batcher);
void aii_batcher_wake(aiinfra_batcher *batcher);                        /* posts a turn */
void aii_batcher_turn(aiinfra_batcher *batcher);                        /* plans, delivers, ends what can end */
void aii_batcher_queue(aii_gen *gen);                                   /* it has something to deliver */
void aii_batcher_watch(aiinfra_batcher *batcher, uint64_t deadline_ns); /* the timer fires by then */

#endif
