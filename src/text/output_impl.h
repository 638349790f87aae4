/* output_impl.h - what the files of the output parser share: a row for each format, and the parser's state.
 *
 * The parser takes one byte after another, so that chunks cannot matter:
 *
 *   CONTENT <──think, think_end──> REASONING          markers are looked for in all but the last three
 *      │ open                         │ open, where the format's calls may end the reasoning
 *      └──────────────┬───────────────┘
 *                   OPEN ──{ or [──> OBJECT ──the end──> ARRAY or CONTENT
 *                     │ any other
 *                   NAME ──name_end──> ARGS ──the value's end──> CONTENT
 *                     └──────────────> TAGS <──> KEY ──> VALUE; TAGS ──close──> CONTENT
 *
 * What stands between a call's marker and its name is kept: when it turns out to be no call, it is text.
 */
#ifndef AII_TEXT_OUTPUT_IMPL_H
#define AII_TEXT_OUTPUT_IMPL_H

#include "lib/json/json.h"
#include "src/text/text.h"

enum {
  AII_OUT_MAX_MARKERS = 24,
  AII_OUT_MAX_MARKER = 96,  /* bytes of one */
  AII_OUT_MAX_NAME = 256,   /* bytes of a tool's name with what stands around it */
  AII_OUT_MAX_AGAIN = 4096, /* bytes that are looked at again when they turn out to be no call */
  AII_OUT_MAX_DEPTH = 32    /* values within values, where they have to be rewritten */
};

typedef struct aii_out_span {
  const char *p;
  size_t n;
} aii_out_span;

/* ---- formats (output_format.c) ------------------------------------------------------------------------------------ */

typedef enum aii_out_form {
  OF_JSON,   /* an object with name and arguments, or an array of them */
  OF_NAMED,  /* the name, then the arguments as JSON */
  OF_TAGS,   /* the name, then one tag for each argument */
  OF_HARMONY /* messages with headers that tell channel and recipient */
} aii_out_form;

/* How the grammar of forced and of triggered calls is built (gram_tools.c). */
typedef enum aii_out_grammar {
  OG_OBJECT, /* {"name": ..., "arguments": {...}} */
  OG_LIST,   /* an array of them */
  OG_NAMED,  /* the name, name_end, {...} */
  OG_TAGS,
  OG_PYTHON, /* [name(key=value, ...), ...] */
  OG_HARMONY
} aii_out_grammar;

struct aii_out_format {
  const char *name;
  const char *needles[3]; /* texts that a template of this format holds; all of them */
  const char *absent;     /* and one that it does not */
  const char *open[3];    /* texts that begin a call */
  const char *close[3];   /* dropped right behind a call */
  const char *drop[6];    /* dropped wherever they stand */
  const char *name_end;
  const char *id_before, *id_behind; /* the text that ends an id before the name; that begins one behind it */
  const char *param, *key_end, *value, *value_end; /* OF_TAGS; value: what is looked for behind the key */
  const char *end;                                 /* OF_TAGS: of a call */
  const char *content_name;                        /* a name that stands for plain content */
  const char *id_prefix;                           /* the name is an id: this, then the name, then ":0" */
  /* Rewrites what stands behind `open` and is no JSON to "name\0{arguments}\0..."; false: it is no call. */
  bool (*rewrite)(aii_out_span text, aii_buf *out);
  uint8_t form, grammar; /* grammar: aii_out_grammar */
  /* the grammar: first, then calls with `between` between them (NULL: one call only), then last */
  const char *first, *last, *between;
  const char *lead, *tail; /* of a call: before its JSON or first tag, and behind it */
  const char *name_before;
  const char *name_key, *args_key, *id_key; /* NULL: "name", "arguments", none */
  const char *quote;                        /* around strings, in place of '"'; keys then have none */
  bool forced_only;                         /* its opening is too common a text to wait for */
  bool lines;                               /* values stand on lines of their own */
  bool kinds;                               /* attributes tell strings from JSON */
  bool cdata;                               /* a value may be <![CDATA[text]]> */
  bool bare;                                /* an object that names a tool is a call without a marker, too */
  bool in_reasoning;                        /* a call ends the reasoning */
  bool key_is_name;                         /* {"name": arguments} */
  bool attributes;                          /* the key ends at a quote; behind it may be string="true", up to ">" */
  bool nested;                              /* values may be tags themselves */
};

/* Whether the prompt's end, without white space, is this text: what it has begun goes on. */
bool aii_out_ends_with(const char *prompt, size_t n, const char *text);
/* Which of the format's texts is part of text, or holds it. */
bool aii_out_format_has(const aii_out_format *format, const char *text, size_t n);

/* ---- arguments (output_args.c) --------------------------------------------------------------------------------------- */

/* The JSON of a value that was written as text, for the parameter `key` of a tool; tool may be NULL. */
void aii_out_value(const json_t *tool, const char *key, aii_out_span text, const aii_out_format *format, int is_string,
                   aii_buf *out);
bool aii_out_python(aii_out_span text, aii_buf *out); /* [name(key="value"), ...]: aii_out_format.rewrite */
bool aii_out_gemma(aii_out_span text, aii_buf *out);  /* call:name{key:<|"|>value<|"|>} */

/* ---- the parser --------------------------------------------------------------------------------------------------------- */

typedef enum aii_out_state {
  OS_CONTENT,
  OS_REASONING,
  OS_NAME,
  OS_TAGS,
  OS_KEY,
  OS_VALUE,
  OS_RAW,    /* for rewrite() */
  OS_HEADER, /* harmony: up to <|message|> */
  OS_SKIP,   /* harmony: a message for someone else */
  OS_OPEN,
  OS_ATTRIBUTES,
  OS_OBJECT,
  OS_ARRAY,
  OS_ARGS
} aii_out_state;

typedef enum aii_out_event {
  OE_THINK,
  OE_THINK_END,
  OE_OPEN,
  OE_DROP,
  OE_NAME_END,
  OE_ID_BEFORE,
  OE_ID_BEHIND,
  OE_PARAM,
  OE_KEY_END,
  OE_VALUE_END,
  OE_END,
  OE_HEADER, /* harmony: a header begins */
  OE_MESSAGE /* harmony: the header ends */
} aii_out_event;

typedef struct aii_out_marker {
  const char *text;
  size_t n;
  aii_out_event event;
} aii_out_marker;

/* Where the end of a JSON value is. */
typedef struct aii_out_json {
  uint32_t depth;
  bool in_string, escaped, plain; /* plain: a number or word */
} aii_out_json;
typedef enum aii_out_step { OJ_MORE, OJ_END, OJ_BEFORE, OJ_BAD } aii_out_step; /* BEFORE: the byte is not part of it */

typedef enum aii_out_member { OM_OTHER, OM_NAME, OM_ARGS, OM_ID } aii_out_member;
typedef enum aii_out_place { OP_KEY_OR_END, OP_KEY, OP_COLON, OP_VALUE, OP_IN_VALUE, OP_COMMA } aii_out_place;

typedef struct aii_out_call {
  char id[80];
  aii_buf name, args;
  size_t sent;
  bool told, complete; /* told: its first delta has gone out */
} aii_out_call;

struct aii_output {
  aii_mem *mem;
  aii_output_syntax syntax;
  bool calls_on, keep_reasoning, json;
  json_t *tools;
  uint64_t seed, hash;

  aii_buf content, reasoning;
  size_t content_sent, reasoning_sent;
  aii_out_call *calls;
  size_t n_calls, cap_calls, first_open; /* first_open: what comes before it has been told */
  bool cut, failed;

  aii_out_state state, outer; /* outer: CONTENT or REASONING, where a call began */
  aii_buf space;              /* white space that may turn out to be outside */
  bool said;                  /* text of the state has begun */
  bool drop_space;            /* white space before it is not part of it */
  bool after_call;
  aii_out_marker markers[AII_OUT_MAX_MARKERS];
  size_t n_markers;
  aii_buf pending; /* the beginning of a marker */
  aii_buf queue;   /* bytes to be looked at again */
  size_t queue_at;

  /* a call */
  bool in_call, announced, in_array;
  bool bare;     /* no marker opened it: only the name of a tool makes it a call */
  aii_buf raw;   /* from its marker on, until it has a name */
  aii_buf word;  /* name, key, header */
  aii_buf value; /* a member or argument */
  aii_buf early; /* arguments that stood before the name */
  char id[80];
  bool id_next;
  int is_string; /* of the argument, by its attributes: -1: not said */
  uint32_t n_args;
  aii_buf end_tag; /* value_end with the key in it */
  aii_out_place place;
  aii_out_member member;
  aii_out_json json_at;
  bool args_streamed;
};

/* output.c */
void aii_out_text(aii_output *o, char byte);             /* a byte of content or reasoning */
void aii_out_enter(aii_output *o, aii_out_state s);      /* another state: its markers */
bool aii_out_announce(aii_output *o, aii_out_span name); /* false: no call of that name */
void aii_out_args(aii_output *o, const char *text, size_t n);
void aii_out_call_done(aii_output *o); /* back to content or the array */
void aii_out_no_call(aii_output *o);   /* what was taken for a call is text */
const json_t *aii_out_tool(const aii_output *o, aii_out_span name);
void aii_out_again(aii_output *o, const char *text, size_t n); /* next bytes to be read */

/* output_call.c */
void aii_out_begin_call(aii_output *o, const char *marker);
void aii_out_call_byte(aii_output *o, char byte);     /* states from OS_OPEN on */
void aii_out_named(aii_output *o, aii_out_event how); /* a name has ended */
void aii_out_param(aii_output *o, aii_out_event event);
void aii_out_rewritten(aii_output *o); /* a raw call has ended */
void aii_out_header(aii_output *o);    /* a harmony header has ended */

#endif
