/* test_metrics.c - metrics as Prometheus reads them: families stand together, histograms are cumulative, updates from
 * several threads add up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/runtime/runtime.h"

static aiinfra_runtime *rt;

static void open_runtime(void)
{
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  opts.n_threads = 1;
  assert_int_equal(aiinfra_runtime_create(&opts, &rt, NULL), AIINFRA_OK);
}

static char *render(void)
{
  static char *text; /* static: gcc 12 takes what points into the text for a pointer to this variable */
  aiinfra_error err;
  assert_int_equal(aiinfra_runtime_metrics(rt, &text, &err), AIINFRA_OK);
  return text;
}

static unsigned occurrences(const char *text, const char *what)
{
  unsigned n = 0;
  for (const char *p = text; (p = strstr(p, what)) != NULL; p++) n++;
  return n;
}

static void test_metrics_stand_in_families(void **state)
{
  (void)state;
  open_runtime();
  aii_metric *a = aii_metric_get(rt, AII_COUNTER, "a_total", "As.", "model=\"x\"");
  aii_metric *b = aii_metric_get(rt, AII_GAUGE, "b", "Bs.", NULL);
  aii_metric *a2 = aii_metric_get(rt, AII_COUNTER, "a_total", "As.", "model=\"y\"");
  assert_ptr_equal(aii_metric_get(rt, AII_COUNTER, "a_total", "As.", "model=\"x\""), a);
  assert_ptr_not_equal(a, a2);
  aii_metric_add(a, 1);
  aii_metric_add(a, 2.5);
  aii_metric_add(a2, 7);
  aii_metric_set(b, 5);
  aii_metric_set(b, -3);
  char *text = render();
  const char *head = strstr(text, "# HELP a_total As.\n# TYPE a_total counter\na_total{model=\"x\"} 3.5\n"
                                  "a_total{model=\"y\"} 7\n");
  assert_non_null(head);
  assert_non_null(strstr(text, "# HELP b Bs.\n# TYPE b gauge\nb -3\n"));
  assert_int_equal(occurrences(text, "# TYPE a_total"), 1);
  assert_int_equal(text[strlen(text) - 1], '\n');
  aiinfra_string_free(text);
  aii_metric_add(NULL, 1); /* a metric that could not be made */
  aii_metric_set(NULL, 1);
  aii_metric_observe(NULL, 1);
  aiinfra_runtime_free(rt);
}

/* The value behind `start`, which must stand in the text. */
static double value_after(const char *text, const char *start)
{
  const char *at = strstr(text, start);
  assert_non_null(at);
  return strtod(at + strlen(start), NULL);
}

static void check_histogram(const char *labels, const char *prefix, const char *suffix)
{
  static const double seen[] = {0.0001, 0.001, 0.002, 0.3, 0.3, 7, 99, 100, 101, 5000};
  char start[200];
  aii_metric *h = aii_metric_get(rt, AII_HISTOGRAM, "h_seconds", "Hs.", labels);
  double sum = 0, before = 0, bound = 0;
  for (size_t i = 0; i < AII_COUNT(seen); i++) aii_metric_observe(h, seen[i]), sum += seen[i];
  char *text = render();
  snprintf(start, sizeof start, "h_seconds_bucket{%sle=\"", prefix);
  unsigned n = 0;
  for (const char *p = text; (p = strstr(p, start)) != NULL; n++) {
    p += strlen(start);
    bool last = strncmp(p, "+Inf\"} ", 7) == 0;
    double le = last ? 1e9 : strtod(p, NULL), expected = 0;
    assert_true(le > bound);
    for (size_t i = 0; i < AII_COUNT(seen); i++) expected += seen[i] <= le;
    double count = strtod(strstr(p, "} ") + 2, NULL);
    assert_true(count == expected && count >= before); /* cumulative */
    before = count;
    bound = le;
  }
  assert_true(n > 10 && bound == 1e9); /* the last is +Inf */
  snprintf(start, sizeof start, "h_seconds_count%s ", suffix);
  assert_true(value_after(text, start) == (double)AII_COUNT(seen));
  snprintf(start, sizeof start, "h_seconds_sum%s ", suffix);
  double d = value_after(text, start) - sum;
  assert_true(d < 1e-3 && d > -1e-3);
  aiinfra_string_free(text);
}

static void test_histograms(void **state)
{
  (void)state;
  open_runtime();
  check_histogram(NULL, "", "");
  check_histogram("model=\"x\"", "model=\"x\",", "{model=\"x\"}");
  char *text = render();
  assert_int_equal(occurrences(text, "# TYPE h_seconds histogram\n"), 1);
  aiinfra_string_free(text);
  aiinfra_runtime_free(rt);
}

static void *update_metrics(void *arg)
{
  aiinfra_runtime *runtime = arg;
  for (int i = 0; i < 2000; i++) {
    char labels[32];
    snprintf(labels, sizeof labels, "n=\"%d\"", i % 5);
    aii_metric_add(aii_metric_get(runtime, AII_COUNTER, "many_total", "Many.", labels), 1);
    aii_metric_observe(aii_metric_get(runtime, AII_HISTOGRAM, "time_seconds", "Time.", NULL), 0.01);
  }
  return NULL;
}

static void test_metrics_from_several_threads(void **state)
{
  (void)state;
  pthread_t threads[4];
  open_runtime();
  for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, update_metrics, rt), 0);
  for (int i = 0; i < 20; i++) aiinfra_string_free(render());
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  char *text = render();
  for (int i = 0; i < 5; i++) {
    char start[64];
    snprintf(start, sizeof start, "many_total{n=\"%d\"} ", i);
    assert_true(value_after(text, start) == 1600);
  }
  assert_true(value_after(text, "time_seconds_count ") == 8000);
  aiinfra_string_free(text);
  aiinfra_runtime_free(rt);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_metrics_stand_in_families),
      cmocka_unit_test(test_histograms),
      cmocka_unit_test(test_metrics_from_several_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
