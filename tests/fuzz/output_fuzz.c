/* output_fuzz.c - any model output in any format, cut anywhere: the pieces make the same content, reasoning and calls. */
#include <stdlib.h>

#include "lib/json/json.h"
#include "src/text/text.h"

static const char TOOLS[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"n\":{\"type\":\"integer\"},\"s\":{\"type\":\"string\"},\"l\":{\"type\":\"array\"}}}}}]";
static const char *const NAMES[] = {"hermes",
                                    "qwen3-coder",
                                    "llama3",
                                    "mistral",
                                    "deepseek-v3",
                                    "deepseek-v3.1",
                                    "kimi",
                                    "deepseek-dsml",
                                    "glm",
                                    "functionary-v3.1",
                                    "functionary-v3.2",
                                    "command-r7b",
                                    "apertus",
                                    "command-r-plus",
                                    "gemma-4",
                                    "lfm2",
                                    "harmony",
                                    "minimax-m3",
                                    "minimax-m2",
                                    "solar",
                                    "granite",
                                    "functools",
                                    "json",
                                    "hunyuan"};

static void collect(aii_output *output, aii_buf *out)
{
  aii_output_delta d;
  while (aii_output_next(output, &d)) {
    if (d.kind == AII_OUT_CALL && d.id != NULL) aii_buf_fmt(out, "\n%s|%s|", d.id, d.name);
    if (d.kind == AII_OUT_CALL) aii_buf_add(out, d.text, d.n);
  }
}

/* Content, reasoning and all call deltas as one text; step: bytes of a piece, 0: all. */
static void parse(aii_mem *mem, const aii_output_opts *opts, const char *text, size_t n, size_t step, aii_buf *out)
{
  aii_output *output;
  size_t len;
  if (aii_output_create(mem, opts, &output, NULL) != AIINFRA_OK) abort();
  for (size_t from = 0, to; from < n; from = to) {
    to = step > 0 && from + step < n ? from + step : n;
    if (aii_output_push(output, text + from, to - from, NULL) != AIINFRA_OK) abort();
    collect(output, out);
  }
  if (aii_output_finish(output, NULL) != AIINFRA_OK) abort();
  collect(output, out);
  const char *content = aii_output_content(output, &len);
  aii_buf_add(out, content, len);
  const char *reasoning = aii_output_reasoning(output, &len);
  aii_buf_add(out, reasoning, len);
  aii_buf_char(out, aii_output_cut(output) ? '!' : '.');
  aii_buf calls;
  aii_buf_init(&calls, mem, 0);
  aii_output_calls_json(output, &calls);
  json_t *json = NULL;
  if (aii_json_parse(calls.data, calls.len, "calls", 0, &json, NULL) != AIINFRA_OK ||
      json_array_size(json) != aii_output_calls(output))
    abort();
  json_decref(json);
  aii_buf_free(&calls);
  aii_output_free(output);
}

/* The first bytes choose format, options and the size of the pieces. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  aii_mem mem;
  aii_buf whole, pieces;
  if (size < 2) return 0;
  aii_mem_init(&mem, NULL, 0);
  aii_buf_init(&whole, &mem, 0);
  aii_buf_init(&pieces, &mem, 0);
  aii_output_opts opts = {.syntax = {.format = aii_output_format(NAMES[data[0] % AII_COUNT(NAMES)])},
                          .tools_json = (data[1] & 1) != 0 ? NULL : TOOLS,
                          .keep_reasoning = (data[1] & 2) != 0,
                          .json = (data[1] & 4) != 0};
  if ((data[1] & 8) == 0) opts.syntax.think = "<think>", opts.syntax.think_end = "</think>";
  if ((data[1] & 16) != 0) opts.prompt = "x<think>\n", opts.n_prompt = 9;
  const char *text = (const char *)data + 2;
  parse(&mem, &opts, text, size - 2, 0, &whole);
  parse(&mem, &opts, text, size - 2, 1 + (data[1] >> 5), &pieces);
  if (whole.len != pieces.len || memcmp(whole.data, pieces.data, whole.len) != 0) abort();
  aii_buf_free(&whole);
  aii_buf_free(&pieces);
  if (mem.used_bytes != 0) abort();
  return 0;
}
