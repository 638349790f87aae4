/* output_format.c - the formats in which models write tool calls: one row each, found by texts of the chat template.
 *
 * The first row whose needles are all in the template counts. To add a format, add a row; where arguments are written
 * in a way of their own, a function that rewrites them (output_args.c).
 */
#include "src/text/output_impl.h"

#define DS_BAR "\xEF\xBD\x9C"
#define DS_LOW "\xE2\x96\x81"
#define DS(word) "<" DS_BAR word DS_BAR ">"
#define DS_CALLS_BEGIN DS("tool" DS_LOW "calls" DS_LOW "begin")
#define DS_CALLS_END DS("tool" DS_LOW "calls" DS_LOW "end")
#define DS_CALL_BEGIN DS("tool" DS_LOW "call" DS_LOW "begin")
#define DS_CALL_END DS("tool" DS_LOW "call" DS_LOW "end")
#define DS_SEP DS("tool" DS_LOW "sep")
#define DSML_TAG DS_BAR "DSML" DS_BAR
#define M3 "]<]minimax[>["
#define HY ":opensource>"

static const aii_out_format FORMATS[] = {
    {.name = "harmony",
     .needles = {"<|channel|>", "<|message|>"},
     .form = OF_HARMONY,
     .open = {"<|start|>"},
     .grammar = OG_HARMONY,
     .drop = {"<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>"}},
    {.name = "deepseek-dsml",
     .needles = {DSML_TAG},
     .form = OF_TAGS,
     .in_reasoning = true,
     .open = {"<" DSML_TAG "invoke name=\""},
     .name_end = "\">",
     .param = "<" DSML_TAG "parameter name=\"",
     .key_end = "\"",
     .attributes = true,
     .value_end = "</" DSML_TAG "parameter>",
     .end = "</" DSML_TAG "invoke>",
     .drop = {"<" DSML_TAG "function_calls>", "</" DSML_TAG "function_calls>", "<" DSML_TAG "tool_calls>",
              "</" DSML_TAG "tool_calls>"},
     .grammar = OG_TAGS,
     .kinds = true,
     .first = "<" DSML_TAG "function_calls>\n",
     .tail = "\n",
     .between = "",
     .last = "</" DSML_TAG "function_calls>"},
    {.name = "deepseek-v3",
     .needles = {DS_SEP, "```json"},
     .form = OF_NAMED,
     .open = {DS_CALL_BEGIN "function" DS_SEP},
     .name_end = "\n",
     .close = {"```" DS_CALL_END, DS_CALL_END},
     .drop = {DS_CALLS_BEGIN, DS_CALLS_END},
     .grammar = OG_NAMED,
     .first = DS_CALLS_BEGIN,
     .lead = "```json\n",
     .tail = "\n```" DS_CALL_END,
     .between = "\n",
     .last = DS_CALLS_END},
    {.name = "deepseek-v3.1",
     .needles = {DS_SEP},
     .form = OF_NAMED,
     .open = {DS_CALL_BEGIN},
     .name_end = DS_SEP,
     .close = {DS_CALL_END},
     .drop = {DS_CALLS_BEGIN, DS_CALLS_END},
     .grammar = OG_NAMED,
     .first = DS_CALLS_BEGIN,
     .tail = DS_CALL_END,
     .between = "",
     .last = DS_CALLS_END},
    {.name = "kimi",
     .needles = {"<|tool_call_begin|>"},
     .form = OF_NAMED,
     .in_reasoning = true,
     .open = {"<|tool_call_begin|>"},
     .name_end = "<|tool_call_argument_begin|>",
     .close = {"<|tool_call_end|>"},
     .id_prefix = "functions.",
     .drop = {"<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"},
     .grammar = OG_NAMED,
     .first = "<|tool_calls_section_begin|>",
     .tail = "<|tool_call_end|>",
     .between = "",
     .last = "<|tool_calls_section_end|>"},
    {.name = "minimax-m3",
     .needles = {M3},
     .form = OF_TAGS,
     .open = {M3 "<invoke name=\""},
     .name_end = "\">",
     .param = M3 "<",
     .key_end = ">",
     .nested = true,
     .end = M3 "</invoke>",
     .drop = {M3 "<tool_call>", M3 "</tool_call>"},
     .grammar = OG_TAGS,
     .first = M3 "<tool_call>\n",
     .tail = "\n",
     .between = "",
     .last = M3 "</tool_call>"},
    {.name = "minimax-m2",
     .needles = {"<minimax:tool_call>"},
     .form = OF_TAGS,
     .in_reasoning = true,
     .open = {"<invoke name=\""},
     .name_end = "\">",
     .param = "<parameter name=\"",
     .key_end = "\"",
     .attributes = true,
     .value_end = "</parameter>",
     .end = "</invoke>",
     .drop = {"<minimax:tool_call>", "</minimax:tool_call>"},
     .grammar = OG_TAGS,
     .first = "<minimax:tool_call>\n",
     .tail = "\n",
     .between = "",
     .last = "</minimax:tool_call>"},
    {.name = "seed-oss",
     .needles = {"<seed:tool_call>"},
     .form = OF_TAGS,
     .in_reasoning = true,
     .open = {"<function="},
     .name_end = ">",
     .param = "<parameter=",
     .key_end = ">",
     .value_end = "</parameter>",
     .end = "</function>",
     .drop = {"<seed:tool_call>", "</seed:tool_call>"},
     .grammar = OG_TAGS,
     .first = "<seed:tool_call>\n",
     .tail = "\n</seed:tool_call>",
     .between = "\n<seed:tool_call>\n"},
    {.name = "hunyuan",
     .needles = {"<arg_key{}>"},
     .form = OF_TAGS,
     .in_reasoning = true,
     .open = {"<tool_call" HY},
     .name_end = "<tool_sep" HY,
     .param = "<arg_key" HY,
     .key_end = "</arg_key" HY,
     .value = "<arg_value" HY,
     .value_end = "</arg_value" HY,
     .end = "</tool_call" HY,
     .drop = {"<tool_calls" HY, "</tool_calls" HY},
     .grammar = OG_TAGS,
     .first = "<tool_calls" HY "\n",
     .tail = "\n",
     .between = "",
     .last = "</tool_calls" HY},
    {.name = "glm",
     .needles = {"<arg_key>"},
     .form = OF_TAGS,
     .in_reasoning = true,
     .open = {"<tool_call>"},
     .name_end = "\n",
     .param = "<arg_key>",
     .key_end = "</arg_key>",
     .value = "<arg_value>",
     .value_end = "</arg_value>",
     .end = "</tool_call>",
     .grammar = OG_TAGS,
     .between = "\n"},
    {.name = "qwen3-coder",
     .needles = {"<function=", "<parameter="},
     .form = OF_TAGS,
     .in_reasoning = true,
     .open = {"<function=", "<tool_call>\n<function="},
     .name_end = ">",
     .param = "<parameter=",
     .key_end = ">",
     .value_end = "</parameter>",
     .end = "</function>",
     .close = {"</tool_call>"},
     .grammar = OG_TAGS,
     .lines = true,
     .first = "<tool_call>\n",
     .tail = "\n</tool_call>",
     .between = "\n<tool_call>\n"},
    {.name = "minicpm",
     .needles = {"<function name=\"", "<param name=\""},
     .form = OF_TAGS,
     .in_reasoning = true,
     .open = {"<function name=\""},
     .name_end = "\">",
     .param = "<param name=\"",
     .key_end = "\"",
     .attributes = true,
     .value_end = "</param>",
     .end = "</function>",
     .grammar = OG_TAGS,
     .cdata = true,
     .between = "\n"},
    {.name = "functionary-v3.1",
     .needles = {"<function="},
     .form = OF_NAMED,
     .open = {"<function="},
     .name_end = ">",
     .close = {"</function>"},
     .grammar = OG_NAMED,
     .tail = "</function>",
     .between = ""},
    {.name = "functionary-v3.2",
     .needles = {">>>all"},
     .form = OF_NAMED,
     .open = {">>>"},
     .name_end = "\n",
     .content_name = "all",
     .grammar = OG_NAMED,
     .between = "\n"},
    {.name = "mistral-v3",
     .needles = {"[TOOL_CALLS]["},
     .form = OF_NAMED,
     .open = {"[TOOL_CALLS]"},
     .name_end = "[ARGS]",
     .grammar = OG_LIST},
    {.name = "mistral",
     .needles = {"[TOOL_CALLS]"},
     .form = OF_NAMED,
     .open = {"[TOOL_CALLS]"},
     .name_end = "[ARGS]",
     .id_behind = "[CALL_ID]",
     .grammar = OG_NAMED,
     .between = ""},
    {.name = "command-r7b",
     .needles = {"<|START_ACTION|>"},
     .form = OF_JSON,
     .open = {"<|START_ACTION|>"},
     .close = {"<|END_ACTION|>"},
     .drop = {"<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"},
     .grammar = OG_LIST,
     .tail = "<|END_ACTION|>",
     .name_key = "tool_name",
     .args_key = "parameters",
     .id_key = "tool_call_id"},
    {.name = "command-r-plus",
     .needles = {"Action:", "```json"},
     .form = OF_JSON,
     .open = {"Action:"},
     .close = {"```"},
     .drop = {"<|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>"},
     .grammar = OG_LIST,
     .lead = "\n```json\n",
     .tail = "\n```",
     .name_key = "tool_name",
     .args_key = "parameters",
     .forced_only = true},
    {.name = "apertus",
     .needles = {"<|tools_prefix|>"},
     .form = OF_JSON,
     .key_is_name = true,
     .open = {"<|tools_prefix|>"},
     .close = {"<|tools_suffix|>"},
     .grammar = OG_LIST,
     .tail = "<|tools_suffix|>"},
    {.name = "nemotron",
     .needles = {"<TOOLCALL>"},
     .form = OF_JSON,
     .open = {"<TOOLCALL>"},
     .close = {"</TOOLCALL>"},
     .grammar = OG_LIST,
     .tail = "</TOOLCALL>"},
    {.name = "gigachat-3.1",
     .needles = {"<|function_call|>"},
     .form = OF_JSON,
     .grammar = OG_OBJECT,
     .open = {"<|function_call|>"}},
    {.name = "gigachat-3",
     .needles = {"function call", "<|role_sep|>"},
     .form = OF_JSON,
     .open = {"function call<|role_sep|>"},
     .drop = {"<|message_sep|>"},
     .grammar = OG_OBJECT,
     .lead = "\n"},
    {.name = "solar",
     .needles = {"<|tool_call:begin|>"},
     .form = OF_NAMED,
     .open = {"<|tool_call:begin|>"},
     .name_end = "<|tool_call:args|>",
     .id_before = "<|tool_call:name|>",
     .close = {"<|tool_call:end|>"},
     .drop = {"<|tool_calls|>", "<|calls|>", "<|content|>", "<|end|>", "<|begin|>assistant"},
     .grammar = OG_NAMED,
     .first = "<|tool_calls|>",
     .tail = "<|tool_call:end|>",
     .between = ""},
    {.name = "gemma-4",
     .needles = {"<|tool_call>call:"},
     .form = OF_JSON,
     .open = {"<|tool_call>"},
     .end = "<tool_call|>",
     .rewrite = aii_out_gemma,
     .grammar = OG_NAMED,
     .name_before = "call:",
     .tail = "<tool_call|>",
     .between = "",
     .quote = "<|\"|>"},
    {.name = "lfm2",
     .needles = {"<|tool_call_start|>"},
     .form = OF_JSON,
     .open = {"<|tool_call_start|>"},
     .end = "<|tool_call_end|>",
     .close = {"<|tool_call_end|>"},
     .rewrite = aii_out_python,
     .grammar = OG_PYTHON},
    {.name = "lfm2",
     .needles = {"<|tool_list_start|>"},
     .form = OF_JSON,
     .open = {"<|tool_call_start|>"},
     .end = "<|tool_call_end|>",
     .close = {"<|tool_call_end|>"},
     .rewrite = aii_out_python,
     .grammar = OG_PYTHON},
    {.name = "apriel",
     .needles = {"<tool_calls>["},
     .form = OF_JSON,
     .open = {"<tool_calls>"},
     .close = {"</tool_calls>"},
     .grammar = OG_LIST,
     .tail = "</tool_calls>"},
    {.name = "granite",
     .needles = {"<|tool_call|>"},
     .form = OF_JSON,
     .open = {"<|tool_call|>"},
     .drop = {"<response>", "</response>"},
     .grammar = OG_LIST},
    {.name = "phi-4",
     .needles = {"<|tool|>"},
     .form = OF_JSON,
     .open = {"<|tool_call|>", "functools"},
     .close = {"<|/tool_call|>"},
     .grammar = OG_LIST,
     .tail = "<|/tool_call|>"},
    {.name = "functools", .needles = {"functools["}, .form = OF_JSON, .grammar = OG_LIST, .open = {"functools"}},
    {.name = "hermes",
     .needles = {"<tool_call>"},
     .form = OF_JSON,
     .in_reasoning = true,
     .open = {"<tool_call>"},
     .close = {"</tool_call>"},
     .grammar = OG_OBJECT,
     .lead = "\n",
     .tail = "\n</tool_call>",
     .between = "\n"},
    {.name = "llama3",
     .bare = true,
     .needles = {"<|start_header_id|>", "{\"name\": ", "\"parameters\": "},
     .form = OF_JSON,
     .open = {"<|python_tag|>"},
     .close = {";"},
     .rewrite = aii_out_python,
     .grammar = OG_OBJECT,
     .args_key = "parameters"},
    {.name = "json",
     .needles = {"{\"name\": ", "\"arguments\": "},
     .form = OF_JSON,
     .grammar = OG_OBJECT,
     .bare = true},
};

static const struct {
  const char *open, *close;
  const char *needle; /* what the template holds; NULL: close */
} THINKING[] = {{"<think>", "</think>", NULL},
                {"[THINK]", "[/THINK]", NULL},
                {"<|START_THINKING|>", "<|END_THINKING|>", NULL},
                {"<seed:think>", "</seed:think>", NULL},
                {"<mm:think>", "</mm:think>", NULL},
                {"<think:opensource>", "</think:opensource>", "</think{}>"},
                {"<thinking>", "</thinking>", NULL},
                {"<|inner_prefix|>", "<|inner_suffix|>", NULL},
                {"<|channel>thought\n", "<channel|>", NULL},
                {"<|think|>", "<|end|>", "<|think|>"}};

static bool matches(const aii_out_format *f, const char *text)
{
  for (size_t i = 0; i < AII_COUNT(f->needles) && f->needles[i] != NULL; i++) {
    if (strstr(text, f->needles[i]) == NULL) return false;
  }
  return f->absent == NULL || strstr(text, f->absent) == NULL;
}

aii_output_syntax aii_output_detect(const char *chat_template)
{
  aii_output_syntax syntax = {0};
  if (chat_template == NULL) return syntax;
  for (size_t i = 0; i < AII_COUNT(FORMATS) && syntax.format == NULL; i++) {
    if (matches(&FORMATS[i], chat_template)) syntax.format = &FORMATS[i];
  }
  for (size_t i = 0; i < AII_COUNT(THINKING) && syntax.think == NULL; i++) {
    if (strstr(chat_template, THINKING[i].needle != NULL ? THINKING[i].needle : THINKING[i].close) == NULL) continue;
    syntax.think = THINKING[i].open;
    syntax.think_end = THINKING[i].close;
  }
  return syntax;
}

const aii_out_format *aii_output_format(const char *name)
{
  for (size_t i = 0; i < AII_COUNT(FORMATS); i++) {
    if (strcmp(FORMATS[i].name, name) == 0) return &FORMATS[i];
  }
  return NULL;
}

const char *aii_output_format_name(const aii_out_format *format)
{
  return format != NULL ? format->name : NULL;
}

const char *aii_output_opening(const aii_out_format *format)
{
  return format != NULL && !format->forced_only ? format->open[0] : NULL;
}

bool aii_grammar_knows(const aii_out_format *format, bool lazy)
{
  return format != NULL && !(lazy && format->forced_only);
}

static bool holds(const char *text, const char *part, size_t n)
{
  return text != NULL && memmem(text, strlen(text), part, n) != NULL;
}

bool aii_out_format_has(const aii_out_format *f, const char *text, size_t n)
{
  const char *single[] = {f->name_end, f->id_before, f->id_behind, f->param, f->key_end,
                          f->value,    f->value_end, f->end,       f->quote};
  for (size_t i = 0; i < AII_COUNT(single); i++) {
    if (holds(single[i], text, n)) return true;
  }
  for (size_t i = 0; i < AII_COUNT(f->open); i++) {
    if (holds(f->open[i], text, n) || holds(f->close[i], text, n)) return true;
  }
  for (size_t i = 0; i < AII_COUNT(f->drop); i++) {
    if (holds(f->drop[i], text, n)) return true;
  }
  return false;
}
