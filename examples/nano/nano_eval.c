/* nano_eval.c - judges the demo model on held-out conversations, through the library's own engine.
 *
 *   nano_eval MODEL.gguf HELD-OUT.jsonl [--show N]
 *
 * generate.py --eval makes the conversations: names, words and seeds that training never saw. They run greedily and
 * side by side on one batcher, and quote passages as an agent does whose option `quote` is 1. A tool call is right when its name and arguments are the expected ones; an answer from a
 * passage when it holds the key words and cites that passage and no other; one from memory when it holds the key words
 * and cites nothing; "I don't know." and small talk when they are as expected to the letter. Ends with 1 when a kind
 * misses its goal.
 */
#include <aiinfra.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 160, IN_FLIGHT = 64 };

typedef struct kind {
  const char *name;
  double goal; /* share that must be right; 0: only shown */
  int n, right, exact;
} kind;

static kind kinds[] = {{"tool call", 0.95, 0, 0, 0}, {"passage", 0.90, 0, 0, 0},  {"memory", 0.90, 0, 0, 0},
                       {"unknown", 0.85, 0, 0, 0},   {"tool answer", 0, 0, 0, 0}, {"chat", 0, 0, 0, 0}};

typedef struct one_case {
  json_t *json; /* {"kind", "messages", "tools", "expect"} */
  char *messages, *tools, *quotes;
  int *in_flight, *to_show;
} one_case;

static kind *kind_of(const json_t *json)
{
  const char *name = json_string_value(json_object_get(json, "kind"));
  if (name != NULL && strcmp(name, "tool") == 0) {
    name = json_object_get(json_object_get(json, "expect"), "tool") != NULL ? "tool call" : "tool answer";
  }
  for (size_t i = 0; name != NULL && i < sizeof kinds / sizeof kinds[0]; i++) {
    if (strcmp(kinds[i].name, name) == 0) return &kinds[i];
  }
  return NULL;
}

/* The only number in brackets, -1 for none, -2 for several different ones. */
static long citation_in(const char *text)
{
  long found = -1;
  for (const char *at = strchr(text, '['); at != NULL; at = strchr(at + 1, '[')) {
    char *end;
    long n = strtol(at + 1, &end, 10);
    if (end == at + 1 || *end != ']') continue;
    found = found == -1 || found == n ? n : -2;
  }
  return found;
}

static int tool_call_is_right(const json_t *wanted, const char *calls_json)
{
  json_t *calls = calls_json != NULL ? json_loads(calls_json, 0, NULL) : NULL;
  json_t *function = json_object_get(json_array_get(calls, 0), "function");
  const char *text = json_string_value(json_object_get(function, "arguments"));
  json_t *arguments = text != NULL ? json_loads(text, 0, NULL) : NULL;
  json_t *name = json_object_get(function, "name"), *arguments_wanted = json_object_get(wanted, "arguments");
  json_t *parsed = json_is_string(arguments_wanted) ? json_loads(json_string_value(arguments_wanted), 0, NULL)
                                                    : json_incref(arguments_wanted);
  int right =
      json_array_size(calls) == 1 && json_equal(name, json_object_get(wanted, "name")) && json_equal(arguments, parsed);
  json_decref(parsed);
  json_decref(arguments);
  json_decref(calls);
  return right;
}

/* 2: to the letter, 1: right, 0: wrong */
static int judge(const json_t *json, const kind *k, const aiinfra_result *result)
{
  const json_t *expect = json_object_get(json, "expect");
  const json_t *tool = json_object_get(expect, "tool"), *citation = json_object_get(expect, "citation");
  const char *answer = json_string_value(json_object_get(expect, "answer"));
  const char *key = json_string_value(json_object_get(expect, "key"));
  if (tool != NULL) return 2 * tool_call_is_right(tool, result->tool_calls_json);
  if (result->tool_calls_json != NULL || answer == NULL) return 0;
  if (strcmp(answer, result->text) == 0) return 2;
  if (strcmp(k->name, "passage") != 0 && strcmp(k->name, "memory") != 0) return 0;
  long cited = citation_in(result->text);
  return key != NULL && strstr(result->text, key) != NULL &&
         cited == (citation != NULL ? (long)json_integer_value(citation) : -1);
}

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  one_case *c = user;
  kind *k = kind_of(c->json);
  int verdict = status == AIINFRA_OK ? judge(c->json, k, result) : 0;
  k->n++;
  k->right += verdict > 0;
  k->exact += verdict > 1;
  (*c->in_flight)--;
  if (verdict == 0 && *c->to_show > 0) {
    char *expected = json_dumps(json_object_get(c->json, "expect"), JSON_ENCODE_ANY);
    (*c->to_show)--;
    printf("--- %s\n%s\nEXPECTED %s\nSAID     %s%s\n", k->name, c->messages, expected, result->text,
           result->tool_calls_json != NULL ? result->tool_calls_json : "");
    free(expected);
  }
  free(c->messages);
  free(c->tools);
  free(c->quotes);
  json_decref(c->json);
  free(c);
}

/* The passages of the system message, lines such as "[1] (docs/server.md) text", for quoting as the agent has it. */
static json_t *passages_of(const json_t *messages)
{
  const char *line = json_string_value(json_object_get(json_array_get(messages, 0), "content"));
  json_t *texts = json_array();
  while (line != NULL) {
    const char *end = strchr(line, '\n'), *text = strstr(line, ") ");
    size_t n = end != NULL ? (size_t)(end - line) : strlen(line);
    if (line[0] == '[' && text != NULL && text < line + n)
      json_array_append_new(texts, json_stringn(text + 2, n - (size_t)(text + 2 - line)));
    line = end != NULL ? end + 1 : NULL;
  }
  return texts;
}

static aiinfra_status ask(aiinfra_batcher *batcher, json_t *json, int *in_flight, int *to_show, aiinfra_error *err)
{
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  one_case *c = calloc(1, sizeof *c);
  if (c == NULL) return AIINFRA_ENOMEM;
  json_t *tools = json_object_get(json, "tools");
  c->json = json;
  c->in_flight = in_flight;
  c->to_show = to_show;
  opts.messages_json = c->messages = json_dumps(json_object_get(json, "messages"), 0);
  opts.tools_json = c->tools = json_array_size(tools) > 0 ? json_dumps(tools, 0) : NULL;
  json_t *passages = passages_of(json_object_get(json, "messages"));
  opts.quotes_json = c->quotes = json_array_size(passages) > 0 ? json_dumps(passages, 0) : NULL;
  json_decref(passages);
  opts.max_tokens = MAX_TOKENS;
  (*in_flight)++;
  return aiinfra_batcher_generate(batcher, &opts, NULL, on_result, c, NULL, err);
}

/* Feeds the batcher line by line; the loop turns whenever enough is in flight. */
static aiinfra_status run(aiinfra_runtime *runtime, aiinfra_batcher *batcher, FILE *file, int to_show,
                          aiinfra_error *err)
{
  static char line[1 << 20];
  aiinfra_status rc = AIINFRA_OK;
  int in_flight = 0, more = 1;
  while (rc == AIINFRA_OK && more) {
    while (rc == AIINFRA_OK && in_flight < IN_FLIGHT && (more = fgets(line, sizeof line, file) != NULL)) {
      json_t *json = json_loads(line, 0, NULL);
      if (json == NULL || kind_of(json) == NULL)
        return snprintf(err->message, sizeof err->message, "not a case: %.80s", line), AIINFRA_EFORMAT;
      rc = ask(batcher, json, &in_flight, &to_show, err);
    }
    if (rc == AIINFRA_OK) rc = aiinfra_runtime_run(runtime, err);
  }
  return rc;
}

static int report(void)
{
  int missed = 0;
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    const kind *k = &kinds[i];
    double right = k->n > 0 ? (double)k->right / k->n : 0;
    printf("%-12s right %5.1f %%  exact %5.1f %%  of %d", k->name, 100 * right, k->n > 0 ? 100.0 * k->exact / k->n : 0,
           k->n);
    if (k->goal > 0) printf("  goal %.0f %%%s", 100 * k->goal, right < k->goal ? "  MISSED" : "");
    printf("\n");
    missed |= right < k->goal;
  }
  return missed;
}

int main(int argc, char **argv)
{
  aiinfra_runtime *runtime = NULL;
  aiinfra_model *model = NULL;
  aiinfra_kv *kv = NULL;
  aiinfra_batcher *batcher = NULL;
  aiinfra_error err = {0};
  if (argc != 3 && !(argc == 5 && strcmp(argv[3], "--show") == 0)) {
    return fprintf(stderr, "usage: nano_eval MODEL.gguf HELD-OUT.jsonl [--show N]\n"), 2;
  }
  FILE *file = fopen(argv[2], "r");
  if (file == NULL) return perror(argv[2]), 1;
  aiinfra_status rc = aiinfra_runtime_create(NULL, &runtime, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_model_open(runtime, argv[1], NULL, &model, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_kv_create(model, NULL, &kv, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_batcher_create(model, kv, NULL, &batcher, &err);
  if (rc == AIINFRA_OK) rc = run(runtime, batcher, file, argc == 5 ? atoi(argv[4]) : 0, &err);
  aiinfra_batcher_free(batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_free(runtime);
  fclose(file);
  if (rc != AIINFRA_OK) return fprintf(stderr, "nano_eval: %s\n", err.message), 1;
  return report();
}
