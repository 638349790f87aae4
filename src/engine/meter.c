/* meter.c - what a batcher tells the runtime's metrics. Names follow vLLM's, with our prefix, so that dashboards made
 * for it need only a rename. Gauges are told as differences: batchers on models of the same name add up. Loop thread.
 */
#include "src/engine/engine.h"

/* By aiinfra_finish; vLLM's words. */
static const char *const end_names[] = {"error", "stop", "length", "abort", "tool_calls"};

static double seconds(uint64_t from_ns, uint64_t to_ns)
{
  return to_ns > from_ns ? (double)(to_ns - from_ns) * 1e-9 : 0.0;
}

/* Writes s as a label's value, without what would need escaping. */
static void add_label(aii_buf *out, const char *s)
{
  aii_buf_str(out, "model_name=\"");
  for (; *s != '\0'; s++) aii_buf_char(out, *s == '"' || *s == '\\' || *s == '\n' ? '_' : *s);
  aii_buf_char(out, '"');
}

static void open_ends(aiinfra_batcher *b, const char *labels)
{
  aii_buf text;
  aii_buf_init(&text, &b->rt->mem, 0);
  for (size_t i = 0; i < AII_COUNT(end_names); i++) {
    aii_buf_clear(&text);
    aii_buf_fmt(&text, "%s,finished_reason=\"%s\"", labels, end_names[i]);
    if (!text.failed)
      b->meter.ended[i] = aii_metric_get(b->rt, AII_COUNTER, "aiinfra_request_success_total",
                                         "Requests ended, by reason", aii_buf_cstr(&text));
  }
  aii_buf_free(&text);
}

/* Metrics are a convenience: where memory is short they stay NULL and count nothing. */
void aii_meter_open(aiinfra_batcher *b)
{
  const struct {
    aii_metric **metric;
    aii_metric_kind kind;
    const char *name, *help;
  } all[] = {
      {&b->meter.running, AII_GAUGE, "aiinfra_num_requests_running", "Requests in the running batch"},
      {&b->meter.waiting, AII_GAUGE, "aiinfra_num_requests_waiting", "Requests waiting for a place in the batch"},
      {&b->meter.kv_usage, AII_GAUGE, "aiinfra_kv_cache_usage_perc", "Share of cache blocks in use, 1 is all"},
      {&b->meter.preemptions, AII_COUNTER, "aiinfra_num_preemptions_total", "Requests set back for want of blocks"},
      {&b->meter.prompt_tokens, AII_COUNTER, "aiinfra_prompt_tokens_total", "Tokens of prompts"},
      {&b->meter.generated_tokens, AII_COUNTER, "aiinfra_generation_tokens_total", "Tokens generated"},
      {&b->meter.prefix_queries, AII_COUNTER, "aiinfra_prefix_cache_queries_total", "Prompt tokens looked up"},
      {&b->meter.prefix_hits, AII_COUNTER, "aiinfra_prefix_cache_hits_total", "Prompt tokens found"},
      {&b->meter.kv_fetches, AII_COUNTER, "aiinfra_kv_fetches_total", "Blocks that came back from the second tier"},
      {&b->meter.first_token, AII_HISTOGRAM, "aiinfra_time_to_first_token_seconds", "Submission to first token"},
      {&b->meter.inter_token, AII_HISTOGRAM, "aiinfra_inter_token_latency_seconds", "From one token to the next"},
      {&b->meter.queue_time, AII_HISTOGRAM, "aiinfra_request_queue_time_seconds", "Submission to first step"},
      {&b->meter.latency, AII_HISTOGRAM, "aiinfra_e2e_request_latency_seconds", "Submission to end"},
  };
  aii_buf labels;
  aii_buf_init(&labels, &b->rt->mem, 0);
  add_label(&labels, b->model->name != NULL ? b->model->name : "");
  if (!labels.failed) {
    for (size_t i = 0; i < AII_COUNT(all); i++)
      *all[i].metric = aii_metric_get(b->rt, all[i].kind, all[i].name, all[i].help, aii_buf_cstr(&labels));
    open_ends(b, aii_buf_cstr(&labels));
  }
  aii_buf_free(&labels);
}

static void follow(aii_metric *gauge, uint32_t *told, uint32_t now)
{
  if (*told != now) aii_metric_add(gauge, (double)now - (double)*told);
  *told = now;
}

void aii_meter_plan(aiinfra_batcher *b)
{
  aii_meter *m = &b->meter;
  follow(m->running, &m->n_running, aii_sched_n_running(b->sched));
  follow(m->waiting, &m->n_waiting, aii_sched_n_waiting(b->sched));
  uint64_t preemptions = aii_sched_preemptions(b->sched);
  if (preemptions != m->n_preemptions) aii_metric_add(m->preemptions, (double)(preemptions - m->n_preemptions));
  m->n_preemptions = preemptions;
  aiinfra_kv_stats kv;
  aii_kv_pool_stats(b->kv->pool, &kv);
  if (kv.fetches != m->n_fetches) aii_metric_add(m->kv_fetches, (double)(kv.fetches - m->n_fetches));
  m->n_fetches = kv.fetches;
  aii_metric_set(m->kv_usage, 1.0 - (double)aii_kv_available(b->kv->pool) / kv.n_blocks);
}

void aii_meter_start(aii_gen *gen)
{
  aii_meter *m = &gen->batcher->meter;
  const aii_seq *seq = &gen->seq;
  aii_metric_add(m->prompt_tokens, seq->n_prompt);
  aii_metric_observe(m->queue_time, seconds(seq->submitted_ns, seq->first_step_ns));
  if (seq->no_cache) return;
  aii_metric_add(m->prefix_queries, seq->n_prompt);
  aii_metric_add(m->prefix_hits, seq->n_cached);
}

void aii_meter_token(aii_gen *gen, uint64_t now_ns)
{
  aii_meter *m = &gen->batcher->meter;
  aii_metric_add(m->generated_tokens, 1.0);
  if (gen->last_token_ns == 0) aii_metric_observe(m->first_token, seconds(gen->seq.submitted_ns, now_ns));
  else aii_metric_observe(m->inter_token, seconds(gen->last_token_ns, now_ns));
}

void aii_meter_end(const aii_gen *gen, aiinfra_finish finish, uint64_t now_ns)
{
  aii_meter *m = &gen->batcher->meter;
  aii_metric_add(m->ended[finish], 1.0);
  aii_metric_observe(m->latency, seconds(gen->seq.submitted_ns, now_ns));
}
