/* metrics.c - counters, gauges and histograms, and their text for Prometheus (exposition format 0.0.4).
 *
 * Metrics are made once and live as long as the runtime; updates are lock free. The list is kept so that metrics of
 * one name stand together, as the format demands.
 */
#include <math.h>
#include <pthread.h>

#include "src/runtime/runtime.h"

/* Upper bounds of histogram buckets in seconds: 1 ms to 100 s, about three a decade. */
static const double BOUNDS[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,  0.25,
                                0.5,   1.0,    2.5,   5.0,  10.0,  25.0, 50.0, 100.0};
enum { N_BOUNDS = AII_COUNT(BOUNDS) };

struct aii_metric {
  struct aii_metric *next;
  aii_metric_kind kind;
  char *name, *help, *labels;
  _Atomic uint64_t bits;                  /* of a double: the value, or a histogram's sum */
  _Atomic uint64_t buckets[N_BOUNDS + 1]; /* histograms: observations per bucket, the last one beyond all bounds */
};

struct aii_metrics {
  aii_mem *mem;
  pthread_mutex_t lock; /* guards the list */
  aii_metric *first;
};

aiinfra_status aii_metrics_create(aii_mem *mem, aii_metrics **out, aiinfra_error *err)
{
  *out = aii_new(mem, sizeof **out);
  if (*out == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for metrics");
  (*out)->mem = mem;
  (void)pthread_mutex_init(&(*out)->lock, NULL);
  return AIINFRA_OK;
}

static void free_metric(aii_mem *mem, aii_metric *metric)
{
  aii_strfree(mem, metric->name);
  aii_strfree(mem, metric->help);
  aii_strfree(mem, metric->labels);
  aii_del(mem, metric, sizeof *metric);
}

void aii_metrics_free(aii_metrics *metrics)
{
  if (metrics == NULL) return;
  while (metrics->first != NULL) {
    aii_metric *metric = metrics->first;
    metrics->first = metric->next;
    free_metric(metrics->mem, metric);
  }
  (void)pthread_mutex_destroy(&metrics->lock);
  aii_del(metrics->mem, metrics, sizeof *metrics);
}

static aii_metric *new_metric(aii_mem *mem, aii_metric_kind kind, const char *name, const char *help,
                              const char *labels)
{
  aii_metric *metric = aii_new(mem, sizeof *metric);
  if (metric == NULL) return NULL;
  metric->kind = kind;
  metric->name = aii_strdup(mem, name);
  metric->help = aii_strdup(mem, help);
  metric->labels = aii_strdup(mem, labels);
  if (metric->name != NULL && metric->help != NULL && metric->labels != NULL) return metric;
  free_metric(mem, metric);
  return NULL;
}

aii_metric *aii_metric_get(aiinfra_runtime *rt, aii_metric_kind kind, const char *name, const char *help,
                           const char *labels)
{
  aii_metrics *metrics = rt->metrics;
  if (labels == NULL) labels = "";
  pthread_mutex_lock(&metrics->lock);
  aii_metric *found = NULL, **place = &metrics->first;
  for (aii_metric **at = &metrics->first; *at != NULL; at = &(*at)->next) {
    if (strcmp((*at)->name, name) == 0) {
      place = &(*at)->next; /* behind the last one of its name */
      if (strcmp((*at)->labels, labels) == 0) found = *at;
    }
  }
  if (found == NULL) {
    found = new_metric(metrics->mem, kind, name, help, labels);
    if (found != NULL) {
      found->next = *place;
      *place = found;
    }
  }
  pthread_mutex_unlock(&metrics->lock);
  return found;
}

static double value_of(const aii_metric *metric)
{
  uint64_t bits = atomic_load_explicit(&metric->bits, memory_order_relaxed);
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

void aii_metric_set(aii_metric *metric, double value)
{
  if (metric == NULL) return;
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  atomic_store_explicit(&metric->bits, bits, memory_order_relaxed);
}

void aii_metric_add(aii_metric *metric, double value)
{
  if (metric == NULL) return;
  uint64_t old = atomic_load_explicit(&metric->bits, memory_order_relaxed), bits;
  do {
    double sum;
    memcpy(&sum, &old, sizeof sum);
    sum += value;
    memcpy(&bits, &sum, sizeof bits);
  } while (
      !atomic_compare_exchange_weak_explicit(&metric->bits, &old, bits, memory_order_relaxed, memory_order_relaxed));
}

void aii_metric_observe(aii_metric *metric, double value)
{
  if (metric == NULL) return;
  size_t i = 0;
  while (i < N_BOUNDS && value > BOUNDS[i]) i++;
  atomic_fetch_add_explicit(&metric->buckets[i], 1, memory_order_relaxed);
  aii_metric_add(metric, value);
}

static void render_histogram(const aii_metric *metric, aii_buf *out)
{
  const char *comma = metric->labels[0] != '\0' ? "," : "";
  uint64_t total = 0;
  for (size_t i = 0; i <= N_BOUNDS; i++) {
    total += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
    aii_buf_fmt(out, "%s_bucket{%s%sle=\"", metric->name, metric->labels, comma);
    if (i < N_BOUNDS) {
      aii_buf_double(out, BOUNDS[i], 6);
    } else {
      aii_buf_str(out, "+Inf");
    }
    aii_buf_fmt(out, "\"} %llu\n", (unsigned long long)total);
  }
  const char *open = metric->labels[0] != '\0' ? "{" : "", *close = metric->labels[0] != '\0' ? "}" : "";
  aii_buf_fmt(out, "%s_sum%s%s%s ", metric->name, open, metric->labels, close);
  aii_buf_double(out, value_of(metric), 9);
  aii_buf_fmt(out, "\n%s_count%s%s%s %llu\n", metric->name, open, metric->labels, close, (unsigned long long)total);
}

static void render_value(const aii_metric *metric, aii_buf *out)
{
  aii_buf_str(out, metric->name);
  if (metric->labels[0] != '\0') aii_buf_fmt(out, "{%s}", metric->labels);
  aii_buf_char(out, ' ');
  aii_buf_double(out, value_of(metric), 17);
  aii_buf_char(out, '\n');
}

void aii_metrics_render(aii_metrics *metrics, aii_buf *out)
{
  static const char *const types[] = {"untyped", "counter", "gauge", "histogram"};
  const char *family = "";
  pthread_mutex_lock(&metrics->lock);
  for (const aii_metric *metric = metrics->first; metric != NULL; metric = metric->next) {
    if (strcmp(family, metric->name) != 0) {
      family = metric->name;
      aii_buf_fmt(out, "# HELP %s %s\n# TYPE %s %s\n", family, metric->help, family, types[metric->kind]);
    }
    if (metric->kind == AII_HISTOGRAM) {
      render_histogram(metric, out);
    } else {
      render_value(metric, out);
    }
  }
  pthread_mutex_unlock(&metrics->lock);
}
