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

struct aii_grammar {
  aii_mem *mem;
  aii_gnode *nodes; /* node 0 is the return */
  size_t n_nodes, cap_nodes;
  aii_gset *sets;
  size_t n_sets, cap_sets;
  uint32_t *rules; /* entries; rule 0 is the root */
  size_t n_rules, cap_rules;
  char *trigger;                       /* NULL: not lazy */
  const struct aii_out_format *format; /* control tokens that are part of its texts count; NULL: none do */
  uint8_t class_of[256];               /* bytes that every set treats alike */
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
} aii_gb;

aiinfra_status aii_gb_init(aii_gb *b, aii_mem *mem, aiinfra_error *err);
/* Checks, compresses, classifies; on failure frees the grammar. */
aiinfra_status aii_gb_finish(aii_gb *b, const char *trigger, aii_grammar **out);
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
uint32_t aii_gb_repeat_call(aii_gb *b, uint32_t rule, uint32_t min, uint32_t max,
                            uint32_t next); /* max NONE: endless */
/* Any of the code points, as UTF-8. Ranges are sorted and merged in place. */
uint32_t aii_gb_ranges(aii_gb *b, aii_range *ranges, size_t n, uint32_t next);
size_t aii_ranges_normalise(aii_range *ranges, size_t n);
/* All code points but these; out has room for n + 2. */
size_t aii_ranges_invert(const aii_range *ranges, size_t n, aii_range *out);

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
