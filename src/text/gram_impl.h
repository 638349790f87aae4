/* gram_impl.h - what the files of the grammar engine share: the compiled form, its builder, the lazy automaton.
 *
 * A compiled grammar is a set of rules over bytes. A rule is a graph of nodes: a byte set with a successor, a choice
 * of two successors, a call of a rule with the successor after its return, or the return. Builders make graphs from
 * the end backwards: each function takes the node that follows and returns the node to begin with.
 */
#ifndef AII_TEXT_GRAM_IMPL_H
#define AII_TEXT_GRAM_IMPL_H

#include "lib/data/data.h"
#include "src/text/text.h"
#include "src/text/vocab_impl.h"

enum {
  AII_G_MAX_NODES = 1 << 20,
  AII_G_MAX_SOURCE = 1 << 20, /* bytes of GBNF or of a pattern */
  AII_G_MAX_GROUPS = 256,     /* brackets within brackets */
  AII_G_MAX_REPEAT = 20000,   /* {n,m}, maxLength, maxItems */
  AII_G_JSON_DEPTH = 8        /* of values that no schema describes */
};

enum { GN_RET = 0, GN_SET, GN_SPLIT, GN_CALL };
#define AII_G_NONE UINT32_MAX

typedef struct aii_gnode {
  uint32_t kind;
  uint32_t a, b; /* SET: set, next. SPLIT: both ways. CALL: rule, next. */
} aii_gnode;

typedef struct aii_gset {
  uint64_t bits[4];
} aii_gset;

/* A node of the automaton that waits: the trie of what it looks for (Aho and Corasick). */
typedef struct aii_gwait {
  uint32_t parent, child, sibling; /* of the trie; NONE: there is none */
  uint32_t fail;                   /* the node of the longest other text that the path ends with */
  uint32_t found;                  /* the node whose text has just been written; NONE: nothing was */
  uint8_t byte, event;             /* event: aii_gw_event of its text */
} aii_gwait;

struct aii_grammar {
  aii_mem *mem;
  aii_gnode *nodes; /* node 0 is the return */
  size_t n_nodes, cap_nodes;
  aii_gset *sets;
  size_t n_sets, cap_sets;
  uint32_t *rules; /* entries; rule 0 is the root */
  size_t n_rules, cap_rules;
  aii_gwait *waits; /* what it waits for before it holds (gram_wait.c); none: it holds from the first byte */
  size_t n_waits, cap_waits;
  uint32_t wait_at;         /* where the waiting begins */
  bool lazy;                /* output may end while it waits */
  aii_output_syntax syntax; /* control tokens that are part of its texts count */
  uint8_t class_of[256];    /* bytes that every set treats alike */
  uint32_t n_classes;
};

typedef struct aii_range {
  uint32_t first, last; /* code points */
} aii_range;

/* ---- builder (gram_build.c, gram_utf8.c) -------------------------------------------------------------------------- */

typedef struct aii_gb {
  aii_grammar *g;
  aiinfra_status rc; /* the first failure; builder calls are harmless afterwards */
  aiinfra_error *err;
  /* rules of plain JSON, made when first needed; AII_G_NONE until then */
  uint32_t string, chr, number, integer, boolean, null;
  uint32_t value[AII_G_JSON_DEPTH + 1], object[AII_G_JSON_DEPTH + 1], array[AII_G_JSON_DEPTH + 1];
  uint32_t raw_chr, text;
  /* how values are written; all zero: as JSON */
  const char *quote; /* around strings, in place of '"' */
  const char *never; /* a text that strings must not hold */
  bool raw;          /* characters of strings stand for themselves, none is escaped */
  bool newline;      /* a line's end is one of them */
  bool words;        /* of JSON's escapes those that Python shares; True, False and None */
  bool bare_keys;    /* {key: value} */
  char avoid;        /* an ASCII character that no string holds unescaped; 0: none */
} aii_gb;

aiinfra_status aii_gb_init(aii_gb *b, aii_mem *mem, aiinfra_error *err);
/* Checks, compresses, classifies; on failure frees the grammar. */
aiinfra_status aii_gb_finish(aii_gb *b, aii_grammar **out);
uint32_t aii_gb_fail(aii_gb *b, aiinfra_status rc, const char *fmt, ...) AII_PRINTF(3, 4);
uint32_t aii_gb_node(aii_gb *b, uint32_t kind, uint32_t x, uint32_t y);
uint32_t aii_gb_rule(aii_gb *b);
void aii_gb_define(aii_gb *b, uint32_t rule, uint32_t entry);
uint32_t aii_gb_set(aii_gb *b, const aii_gset *set, uint32_t next);
uint32_t aii_gb_bytes(aii_gb *b, const char *s, size_t n, uint32_t next);
uint32_t aii_gb_str(aii_gb *b, const char *s, uint32_t next);
uint32_t aii_gb_chars(aii_gb *b, const char *ranges, uint32_t next); /* "09af": ASCII ranges in pairs */
uint32_t aii_gb_split(aii_gb *b, uint32_t x, uint32_t y);
uint32_t aii_gb_call(aii_gb *b, uint32_t rule, uint32_t next);
uint32_t aii_gb_space(aii_gb *b, uint32_t next); /* " "? */
uint32_t aii_gb_maybe(aii_gb *b, const char *s, uint32_t next);
uint32_t aii_gb_either(aii_gb *b, uint32_t x, uint32_t y); /* either may be NONE: then the other one */
uint32_t aii_gb_repeat_call(aii_gb *b, uint32_t rule, uint32_t min, uint32_t max,
                            uint32_t next); /* max NONE: endless */
/* Any of the code points, as UTF-8. Ranges are sorted and merged in place. */
uint32_t aii_gb_ranges(aii_gb *b, aii_range *ranges, size_t n, uint32_t next);
size_t aii_ranges_normalise(aii_range *ranges, size_t n);
/* All code points but these; out has room for n + 2. */
size_t aii_ranges_invert(const aii_range *ranges, size_t n, aii_range *out);

/* ---- waiting (gram_wait.c) -------------------------------------------------------------------------------------------- */

enum { AII_GW_MAX_TEXT = 512 };
enum { AII_GW_TEXT, AII_GW_START, AII_GW_REASONING, AII_GW_ROOTS }; /* START: nothing but white space was written yet */
typedef enum aii_gw_event { GW_NONE, GW_TRIGGER, GW_THINK, GW_THINK_END } aii_gw_event;
/* Looks for text from a root on; the grammar then holds from the text's own start (TRIGGER), or the root changes. */
void aii_gw_add(aii_gb *b, uint32_t root, const char *text, aii_gw_event event);
void aii_gw_link(aii_gb *b); /* when all are in */
uint32_t aii_gw_step(const aii_grammar *g, uint32_t node, uint8_t byte);

/* ---- groups, alternatives and repetitions for text that is parsed forwards (gram_group.c) -------------------------- */

typedef struct aii_ggroup {
  uint32_t low; /* first node of the group */
  uint32_t entry, exit;
  uint32_t choice;                          /* the last SPLIT of alternatives */
  uint32_t tail;                            /* what the next item is linked to */
  uint32_t item_low, item_entry, item_exit; /* the last item; entry NONE: none */
} aii_ggroup;

typedef struct aii_gparse {
  aii_gb *b;
  aii_ggroup groups[AII_G_MAX_GROUPS];
  size_t n_groups;
} aii_gparse;

void aii_gp_open(aii_gparse *p);
void aii_gp_alternative(aii_gparse *p);
uint32_t aii_gp_close(aii_gparse *p, uint32_t *exit); /* returns the entry */
void aii_gp_close_item(aii_gparse *p);                /* the group becomes an item of the one around it */
void aii_gp_item(aii_gparse *p, uint32_t low, uint32_t entry, uint32_t exit);
bool aii_gp_repeat(aii_gparse *p, uint32_t min, uint32_t max); /* the last item; false: there is none */
void aii_gp_flush(aii_gparse *p);                              /* links the last item */
uint32_t aii_gp_eps(aii_gb *b);                                /* an empty node, linked later */

/* ---- JSON (gram_json.c, gram_number.c, gram_pattern.c, gram_schema.c) ------------------------------------------------ */

uint32_t aii_gj_string(aii_gb *b);
uint32_t aii_gj_char(aii_gb *b);
size_t aii_gj_plain(const aii_gb *b, aii_range out[8]); /* the characters that stand for themselves in a string */
/* Text up to the first `end` and with it, without b->never in it. not_first: ASCII characters it must not begin with. */
uint32_t aii_gj_until(aii_gb *b, const char *end, const char *not_first, uint32_t next);
uint32_t aii_gj_key(aii_gb *b, uint32_t next);                                /* any member's */
uint32_t aii_gj_identifier(aii_gb *b, uint32_t next);                         /* a letter or _, then digits, too */
uint32_t aii_gj_dumped(aii_gb *b, const char *json, size_t n, uint32_t next); /* a text of JSON as it may be written */
uint32_t aii_gj_number(aii_gb *b);
uint32_t aii_gj_integer(aii_gb *b);
uint32_t aii_gj_boolean(aii_gb *b);
uint32_t aii_gj_null(aii_gb *b);
uint32_t aii_gj_value(aii_gb *b, uint32_t depth);
uint32_t aii_gj_object(aii_gb *b, uint32_t depth);
uint32_t aii_gj_array(aii_gb *b, uint32_t depth);
/* Integers from..to (both within 18 digits); fraction: any decimals may follow that stay within. */
uint32_t aii_gj_int_range(aii_gb *b, int64_t from, int64_t to, bool fraction, uint32_t next);
uint32_t aii_gj_pattern(aii_gb *b, const char *pattern, uint32_t next); /* the text between the quotes */
struct json_t;
/* The rule for a schema; `what` names it in messages. root_object: {} means an object. */
uint32_t aii_gj_schema(aii_gb *b, const struct json_t *schema, const char *what, bool root_object);
/* The rule for a tool's arguments as a format writes them, from behind its name (and name_end) on to the end of the
 * call. schema NULL: any. */
uint32_t aii_gj_arguments(aii_gb *b, const struct json_t *schema, const char *what, const aii_out_format *format);

/* ---- the lazy automaton (gram_dfa.c) ----------------------------------------------------------------------------------- */

typedef struct aii_gstack {
  uint32_t node, parent, depth; /* where to go on after a return; parent 0: the bottom */
} aii_gstack;

typedef struct aii_gconfig {
  uint32_t first, n; /* tops */
  bool accepting;
} aii_gconfig;

typedef struct aii_gindex { /* a hash index into one of the arrays */
  uint32_t *slots;
  size_t cap;
} aii_gindex;

typedef struct aii_gdfa {
  aii_mem *mem;
  const aii_grammar *g;
  aii_gstack *stacks;
  size_t n_stacks, cap_stacks;
  aii_gindex stack_index;
  uint64_t *tops; /* node << 32 | stack */
  size_t n_tops, cap_tops;
  aii_gconfig *configs; /* 0 is dead */
  size_t n_configs, cap_configs;
  aii_gindex config_index;
  uint32_t *next; /* n_configs rows of n_classes; NONE: not known yet */
  size_t cap_next;
  uint64_t *work; /* closure under way; [0..n_seen) in order of discovery */
  size_t n_seen, cap_work;
  aii_gindex seen;
} aii_gdfa;

enum { AII_G_DEAD = 0 };
bool aii_gdfa_init(aii_gdfa *d, aii_mem *mem, const aii_grammar *g);
void aii_gdfa_free(aii_gdfa *d);
/* The configuration of the root; NONE: memory, or the grammar is too ambiguous. */
uint32_t aii_gdfa_start(aii_gdfa *d);
uint32_t aii_gdfa_step(aii_gdfa *d, uint32_t config, uint8_t byte);
/* Drops everything but one configuration; *config is renamed. */
bool aii_gdfa_flush(aii_gdfa *d, uint32_t *config);

#endif
