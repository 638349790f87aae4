/* src/engine/engine.h - the batcher: turns submissions into sequences, plans into forward passes, tokens into callbacks.
 *
 *   generate() ─> gen: options checked, prompt tokenised, grammar compiled (long ones on libuv's pool)
 *        └─> scheduler ─> turn: plan ─> job on the runtime's worker: copies, forward, mask, sample
 *                 ^                        └─> done on the loop: text, stop strings ─> scheduler ─> next plan
 *                 └──────────────────────────────────────────────────────────────────────┘    └─> callbacks
 *
 * Invariants:
 *  1. At most two jobs are out: one that runs and one behind it, whose tokens are those that the first one samples. While one
 *     is, the worker alone touches the samplers, penalties, quotes and grammar states of its sequences, and of a gen
 *     otherwise only reads what does not change; everything else belongs to the loop's thread. The array of tokens may grow
 *     while a job behind another runs, which does not read it.
 *  2. Host callbacks run in aii_batcher_turn() only, which a posted task or a finished job calls: never inside a call
 *     of the host. The next job is on its way before they run.
 *  3. A gen is freed right after its terminal callback; until then it holds the loop.
 *  4. A batcher ends when its handle was given up, no gen and no group is open, no job is out and no turn is posted.
 *  5. Texts to embed are a group: each becomes a gen without a request of its own, which hands its vector to the group.
 *     The group outlives its gens; its callback comes when the last of them has ended.
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
  AII_MAX_BIASES = 1024,
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
  const char *text, *messages_json, *tools_json, *tool_choice, *json_schema, *variables_json, *logit_bias, *quotes_json;
  const char *query; /* text is a document to score by it */
  bool owned;        /* copies, to be freed */
} aii_gen_input;

typedef struct aii_group aii_group;

typedef struct aii_gen {
  aii_seq seq;
  aiinfra_batcher *batcher;
  aiinfra_request *request;    /* NULL: a member of a group */
  struct aii_gen *prev, *next; /* open ones */
  struct aii_gen *out_next;    /* those with something to deliver */
  bool queued;
  aii_gen_phase phase;
  bool cancel_asked, counted;
  size_t cap_tokens; /* room in seq.tokens */
  aii_gen_input input;
  aii_sampling sampling;
  aii_penalties penalties;
  uint32_t max_tokens;
  bool ignore_eos, want_special;
  aii_grammar *grammar;
  aii_grammar_state *grammar_state;
  aii_quote *quote; /* NULL: none */
  aii_sampler *sampler;
  aii_penalty *penalty; /* NULL: none */
  aii_stream stream;
  aii_output *output; /* takes the text apart: content, reasoning, calls; NULL: all of it is content */
  uint32_t n_sent_tokens;
  uint64_t last_token_ns;
  aii_group *group;      /* whose text this is; NULL: a generation */
  size_t index;          /* of the text in its group */
  uint32_t second;       /* where the second text of a pair begins, if the model tells them apart; else 0 */
  double *sum;           /* of the hidden states that are pooled, [n_embd]; then scratch [n_embd] */
  double score;          /* of a document */
  uint32_t n_summed;     /* how many these are */
  aiinfra_status status; /* of the end; AIINFRA_OK until something failed */
  aiinfra_error error;
  aiinfra_chunk_cb on_chunk;
  aiinfra_result_cb on_result;
  void *user;
} aii_gen;

/* gen.c: birth, queue and end. All on the loop's thread. */
aii_gen *aii_gen_new(aiinfra_batcher *batcher, void *user, aiinfra_error *err); /* open; NULL: ENOMEM */
void aii_gen_free(aii_gen *gen);
/* Prepares here or on the pool, then hands it to the scheduler. On failure the caller frees the gen. */
aiinfra_status aii_gen_start(aii_gen *gen, aiinfra_request **request, aiinfra_error *err);
aiinfra_status aii_gen_start_member(aii_gen *gen, aiinfra_error *err); /* the same without a request */
void aii_gen_cancel(void *gen);
void aii_gen_fail(aii_gen *gen, aiinfra_status status, const aiinfra_error *err);

/* options.c: checks and copies what the host asked for. */
aiinfra_status aii_gen_load(aii_gen *gen, const aiinfra_generate_opts *opts, aiinfra_error *err);
aiinfra_status aii_gen_own_input(aii_gen *gen, aiinfra_error *err);
void aii_gen_drop_input(aii_gen *gen);
size_t aii_gen_input_bytes(const aii_gen *gen);

aiinfra_status aii_check_text(const char *text, const char *field, aiinfra_error *err);
uint64_t aii_deadline(uint64_t deadline_ms); /* from now; 0: none */

/* prepare.c: prompt to tokens, schema and tools to a grammar. Any thread; touches nothing but the gen. */
aiinfra_status aii_gen_prepare(aii_gen *gen, aiinfra_error *err);

/* bias.c: penalties and logit_bias, if any are asked for, to gen->penalty. As aii_gen_prepare(), whose part it is. */
aiinfra_status aii_gen_make_penalty(aii_gen *gen, aiinfra_error *err);

/* Whether a token ends its gen whatever its text is. Any thread. */
static inline bool aii_gen_ends_with(const aii_gen *gen, const aii_vocab *vocab, aiinfra_token token)
{
  return !gen->ignore_eos && aii_vocab_is_eog(vocab, token);
}

/* deliver.c: callbacks to the host. */
aiinfra_status aii_gen_take_token(aii_gen *gen, aii_plan_result *result, uint64_t now_ns); /* text of a sampled token */
void aii_gen_deliver(aii_gen *gen); /* new output; the result and the end, when it has ended: the gen is gone then */

/* ---- group: texts that are embedded or scored together (group.c) --------------------------------------------------- */

/* What the host wants of some texts, checked. */
typedef struct aii_group_want {
  const char *const *texts;
  size_t n_texts;
  const char *field; /* what the host calls them; a literal */
  const char *query; /* scores the texts by it; NULL: vectors are wanted */
  size_t n_dims;     /* floats that a text becomes */
  int32_t pooling, priority;
  bool normalize, raw_scores;
  uint64_t deadline_ms;
  aiinfra_embed_cb on_vector; /* one of these; or none */
  aiinfra_embed_result_cb on_vectors;
  aiinfra_rerank_cb on_scores;
  void *user;
} aii_group_want;

struct aii_group {
  aiinfra_batcher *batcher;
  aiinfra_request *request;
  struct aii_group *next;
  aii_group_want want; /* texts and query are ours */
  char **texts;        /* [n_texts] */
  char *query;
  float *floats;      /* [n_texts][n_dims]: vectors or scores */
  uint32_t *n_tokens; /* [n_texts] */
  size_t n_texts, n_dims, n_started;
  uint32_t n_busy; /* started, not ended */
  uint64_t deadline_ns;
  aiinfra_status status; /* AIINFRA_OK until something failed: then nothing more is started */
  aiinfra_error error;
};

/* Copies what it needs and starts the first texts. Loop thread, as all of these but the two for passes. */
aiinfra_status aii_group_start(aiinfra_batcher *batcher, const aii_group_want *want, aiinfra_request **request,
                               aiinfra_error *err);
void aii_group_cancel(void *group);
void aii_groups_pump(aiinfra_batcher *batcher);           /* starts texts that wait */
void aii_groups_deliver(aiinfra_batcher *batcher);        /* calls back and frees those that have ended */
void aii_group_take(aii_gen *gen, aiinfra_status status); /* a member has ended */
bool aii_group_pools(const aii_gen *gen, uint32_t pos);   /* whether a token's hidden state is part of the result */
void aii_group_add(aii_gen *gen, const float *hidden);    /* adds it; worker */
void aii_group_finish(aii_gen *gen);                      /* all have been added; worker */

/* ---- pass: one forward pass (pass.c) ------------------------------------------------------------------------------ */

/* A plan on its way to the worker and back. */
typedef struct aii_pass {
  aii_job job;
  aiinfra_batcher *batcher;
  const aii_plan *plan;     /* NULL: not out */
  _Atomic uint32_t claim;   /* who was first: the worker, to run it, or the loop, to drop it */
  aii_plan_result *results; /* [max_running] */
  aiinfra_error *errors;    /* [max_running], of results that failed on the worker */
  aiinfra_status status;    /* of the whole pass */
  aiinfra_error error;
  uint64_t busy_ns;
} aii_pass;

/* A token that the last pass sampled, for the pass behind it. */
typedef struct aii_carry {
  aiinfra_token token;
  bool goes_on; /* there is one, and it does not end its sequence */
} aii_carry;

/* What the pass that runs works with, laid out in the order of its parts. Worker. */
typedef struct aii_desk {
  aiinfra_token *tokens; /* [max_rows], as the next four */
  aiinfra_token *types;  /* of tokens */
  uint32_t *pos, *seq, *hidden_rows;
  const uint32_t **tables; /* [max_running] */
  uint32_t *logit_rows;    /* [max_running] */
  aii_carry *carry;        /* [max_running], of the pass before, then of this one */
  float *logits;           /* [max_running][n_vocab]; one row where there are lists */
  aii_shortlist *lists;    /* [max_running]; NULL: rows of logits come to host memory */
  float *hidden; /* [max_rows][n_embd]; NULL until an embedding is asked for: made by the loop, before any is planned */
  aii_workspace *ws;
  aii_forward forward;
} aii_desk;

aiinfra_status aii_passes_create(aiinfra_batcher *batcher, aiinfra_error *err);
void aii_passes_destroy(aiinfra_batcher *batcher);
bool aii_passes_out(const aiinfra_batcher *batcher);
aiinfra_status aii_pass_want_hidden(aiinfra_batcher *batcher, aiinfra_error *err);
/* Sends what can be planned now to the worker, and drops a pass behind another one that is no longer wanted. */
void aii_passes_send(aiinfra_batcher *batcher);
static inline aii_gen *aii_gen_of(const aii_plan_part *part)
{
  return AII_CONTAINER(part->seq, aii_gen, seq);
}
/* The tokens of all parts that sample, to their results. Worker. (choose.c) */
aiinfra_status aii_pass_choose(aii_pass *pass, aiinfra_error *err);

/* ---- metrics (meter.c) -------------------------------------------------------------------------------------------- */

typedef struct aii_meter {
  aii_metric *running, *waiting, *kv_usage, *preemptions, *prompt_tokens, *generated_tokens, *prefix_queries,
      *prefix_hits, *kv_fetches;
  aii_metric *first_token, *inter_token, *queue_time, *latency;
  aii_metric *ended[5];          /* by end_names */
  uint32_t n_running, n_waiting; /* as last told */
  uint64_t n_preemptions, n_fetches;
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
  aii_pass passes[2]; /* taken in turn */
  uint32_t next_pass;
  aii_desk desk;
  aii_meter meter;
  aii_task turn;
  bool turn_posted, in_turn, closing;
  aii_timer *timer;
  uint64_t timer_ns; /* the deadline it is set to; 0: none */
  aii_gen *open, *out_head, *out_tail;
  aii_group *groups; /* in the order of their submission */
  uint32_t n_open, n_groups;
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
