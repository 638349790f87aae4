/* template_tool.c - renders chat templates for templates_diff.py: a JSON object a line in, a JSON object a line out.
 *
 * In: template, messages, tools, extra, bos, eos, add_generation_prompt, now (seconds), seed. Out: text or error, ms,
 * and the hash of the text, begun with the seed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lib/json/json.h"
#include "src/text/text.h"

static char *dump(const json_t *value)
{
  return value != NULL && !json_is_null(value) ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
}

static void answer(aii_mem *mem, const json_t *in)
{
  const char *source = json_string_value(json_object_get(in, "template"));
  char *messages = dump(json_object_get(in, "messages")), *tools = dump(json_object_get(in, "tools")),
       *extra = dump(json_object_get(in, "extra"));
  aii_template_vars vars = {.messages_json = messages,
                            .tools_json = tools,
                            .extra_json = extra,
                            .bos_token = json_string_value(json_object_get(in, "bos")),
                            .eos_token = json_string_value(json_object_get(in, "eos")),
                            .now_s = json_integer_value(json_object_get(in, "now")),
                            .add_generation_prompt = json_is_true(json_object_get(in, "add_generation_prompt"))};
  aii_template *tmpl = NULL;
  aiinfra_error err = {0};
  aii_buf out;
  aii_buf_init(&out, mem, 0);
  clock_t start = clock();
  aiinfra_status rc = aii_template_parse(mem, source, strlen(source), &tmpl, &err);
  if (rc == AIINFRA_OK) rc = aii_template_render(tmpl, &vars, &out, &err);
  double ms = (double)(clock() - start) * 1e3 / CLOCKS_PER_SEC; /* of this thread alone */
  json_t *line = rc == AIINFRA_OK ? json_pack("{ss%, sf}", "text", aii_buf_cstr(&out), out.len, "ms", ms)
                                  : json_pack("{ss, sf}", "error", err.message, "ms", ms);
  const char *made = rc == AIINFRA_OK ? aii_buf_cstr(&out) : "error",
             *seed_text = json_string_value(json_object_get(in, "seed"));
  uint64_t seed = seed_text != NULL ? strtoull(seed_text, NULL, 16) : 0;
  char hash[17];
  (void)snprintf(hash, sizeof hash, "%016llx",
                 (unsigned long long)aii_hash64(made, rc == AIINFRA_OK ? out.len : strlen(made), seed));
  json_object_set_new(line, "hash", json_string(hash));
  char *text = json_dumps(line, JSON_COMPACT);
  puts(text);
  fflush(stdout);
  free(text);
  json_decref(line);
  aii_template_free(tmpl);
  aii_buf_free(&out);
  free(messages);
  free(tools);
  free(extra);
}

int main(void)
{
  aii_mem mem;
  char *line = NULL;
  size_t cap = 0;
  ssize_t n;
  aii_mem_init(&mem, NULL, 0);
  while ((n = getline(&line, &cap, stdin)) > 0) {
    json_t *in = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, NULL);
    if (in == NULL) return 1;
    answer(&mem, in);
    json_decref(in);
  }
  free(line);
  return mem.used_bytes != 0;
}
