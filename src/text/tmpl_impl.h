/* tmpl_impl.h - what the files of the chat template interpreter share: arena, values, tree, run state.
 *
 * A template is parsed once into a tree that lies in its own arena. A rendering has an arena of its own for every
 * value it makes; both are freed at once. Recursion goes by the tree's height and by nested macro calls, and both
 * are bounded. Functions that can fail return false and leave status and message in the run.
 */
#ifndef AII_TEXT_TMPL_IMPL_H
#define AII_TEXT_TMPL_IMPL_H

#include "src/text/text.h"

enum {
  AII_T_MAX_SOURCE = 1 << 18,  /* bytes of a template */
  AII_T_MAX_NESTING = 64,      /* statements within statements, brackets within brackets */
  AII_T_MAX_HEIGHT = 300,      /* of an expression's tree: a + b + c has 3 */
  AII_T_MAX_DEPTH = 700,       /* evaluations within evaluations, macros included */
  AII_T_MAX_STEPS = 500000,    /* a step is some 40 ns of work: an evaluation, a copied item, 16 scanned bytes */
  AII_T_STEPS_PER_BYTE = 4,    /* and so many more for each byte of messages and tools */
  AII_T_MAX_ARENA = 48 << 20,  /* bytes of all values of one rendering; each 64 of them are a step, too */
  AII_T_MAX_OUTPUT = 16 << 20, /* bytes of output */
  AII_T_MAX_RANGE = 100000,    /* as jinja2's sandbox */
  AII_T_MAX_JSON_DEPTH = 100
};

/* ---- arena (tmpl_arena.c) -------------------------------------------------------------------------------------- */

typedef struct aii_arena_chunk aii_arena_chunk;
typedef struct aii_arena {
  aii_mem *mem;
  aii_arena_chunk *chunks;
  size_t used, limit; /* bytes handed out; more than limit: NULL */
} aii_arena;

void aii_arena_init(aii_arena *arena, aii_mem *mem, size_t limit);
void aii_arena_free(aii_arena *arena);
void *aii_arena_new(aii_arena *arena, size_t size); /* zeroed, 16-aligned; NULL: memory or limit */

/* ---- values ------------------------------------------------------------------------------------------------------ */

typedef enum aii_tv_type {
  TV_UNDEFINED, /* s: the name, for messages */
  TV_NONE,
  TV_BOOL,
  TV_INT,
  TV_FLOAT,
  TV_STR,
  TV_LIST,
  TV_MAP,
  TV_NAMESPACE,
  TV_MACRO,
  TV_FUNCTION,
  TV_METHOD
} aii_tv_type;

/* What kind of list or string it is, beside the type: Python tells these apart. */
typedef enum aii_tv_look {
  TL_PLAIN,
  TL_TUPLE,
  TL_VIEW,      /* keys, values or items of a mapping: has a length, but no order to point into */
  TL_GENERATOR, /* what map, select and their like give: true, without a length, read once */
  TL_SAFE       /* a string that `safe` or `escape` made: what "+" adds to it is escaped */
} aii_tv_look;

typedef struct aii_tlist aii_tlist;
typedef struct aii_tmap aii_tmap;
typedef struct aii_tmacro aii_tmacro;

typedef struct aii_tv {
  uint8_t type, look;
  uint32_t n; /* bytes of s */
  union {
    bool b;
    int64_t i;
    double f;
    const char *s;
    aii_tlist *list;
    aii_tmap *map; /* TV_MAP, TV_NAMESPACE */
    aii_tmacro *macro;
  };
} aii_tv;

struct aii_tlist {
  aii_tv *items;
  size_t n, cap;
};

struct aii_tmap { /* in order of insertion */
  aii_tv *keys, *values;
  size_t n, cap;
};

/* ---- tree --------------------------------------------------------------------------------------------------------- */

typedef enum aii_tkind {
  /* expressions */
  TK_CONST,
  TK_NAME,
  TK_LIST,
  TK_TUPLE,
  TK_DICT,
  TK_ATTR,
  TK_ITEM,
  TK_SLICE,
  TK_CALL,
  TK_KWARG,
  TK_FILTER,
  TK_TEST,
  TK_NOT,
  TK_NEG,
  TK_POS,
  TK_BINARY,
  TK_AND,
  TK_OR,
  TK_COND,
  /* statements */
  TK_BLOCK,
  TK_TEXT,
  TK_OUTPUT,
  TK_IF,
  TK_FOR,
  TK_SET,
  TK_SETBLOCK,
  TK_MACRO,
  TK_FILTERBLOCK,
  TK_CALLBLOCK,
  TK_BREAK,
  TK_CONTINUE
} aii_tkind;

typedef enum aii_top {
  TO_ADD,
  TO_SUB,
  TO_MUL,
  TO_DIV,
  TO_FLOORDIV,
  TO_MOD,
  TO_POW,
  TO_CONCAT,
  TO_EQ,
  TO_NE,
  TO_LT,
  TO_LE,
  TO_GT,
  TO_GE,
  TO_IN,
  TO_NOT_IN
} aii_top;

typedef struct aii_tnode {
  uint8_t kind, op;
  uint16_t height;
  uint32_t line;
  aii_tv value;                    /* constant, or a name as a string */
  struct aii_tnode *a, *b, *c, *d; /* by kind, see the parser */
  struct aii_tnode **items;        /* elements, arguments, statements, parameters */
  uint32_t n_items;
} aii_tnode;

/* ---- tokens (tmpl_lex.c) ------------------------------------------------------------------------------------------ */

typedef enum aii_ttok_type {
  TT_EOF,
  TT_TEXT,
  TT_VAR_BEGIN,
  TT_VAR_END,
  TT_BLOCK_BEGIN,
  TT_BLOCK_END,
  TT_NAME,
  TT_STR,
  TT_INT,
  TT_FLOAT,
  TT_OP
} aii_ttok_type;

typedef struct aii_ttok {
  uint8_t type;
  char op[3]; /* TT_OP, NUL-terminated */
  uint32_t line;
  aii_tv value; /* TV_STR for text, names and strings */
} aii_ttok;

typedef struct aii_tsource {
  aii_arena *arena;
  aii_mem *mem;
  const char *text; /* newlines normalised, the last one dropped */
  size_t n;
  aii_ttok *tokens;
  size_t n_tokens, cap;
  aiinfra_error *err;
} aii_tsource;

aiinfra_status aii_tmpl_lex(aii_tsource *src);
void aii_tmpl_lex_free(aii_tsource *src);

/* What a macro's body speaks of, and so what the macro may be called with; in op of TK_MACRO and TK_CALLBLOCK. */
typedef enum aii_tm_use { TM_VARARGS = 1, TM_KWARGS = 2, TM_CALLER = 4 } aii_tm_use;

/* ---- parser (tmpl_parse.c, tmpl_expr.c) ----------------------------------------------------------------------------- */

typedef struct aii_tparser {
  aii_arena *arena;
  const aii_ttok *tok;
  uint32_t nesting, loops;
  uint8_t uses; /* aii_tm_use of the macro around this place */
  aiinfra_status rc;
  aiinfra_error *err;
} aii_tparser;

aii_tnode *aii_tp_node(aii_tparser *p, aii_tkind kind);
aii_tnode *aii_tp_fail(aii_tparser *p, const char *fmt, ...) AII_PRINTF(2, 3);
bool aii_tp_append(aii_tparser *p, aii_tnode *node, aii_tnode *item);
bool aii_tp_is_op(const aii_tparser *p, const char *op);
bool aii_tp_is_name(const aii_tparser *p, const char *name);
bool aii_tp_take_op(aii_tparser *p, const char *op);
bool aii_tp_want_op(aii_tparser *p, const char *op);
bool aii_tp_take_name(aii_tparser *p, const char *name);
aii_tnode *aii_tp_expr(aii_tparser *p); /* with "a if b else c" */
aii_tnode *aii_tp_or(aii_tparser *p);   /* without */
/* The "| f | g" behind a; bare: the first one without its bar. */
aii_tnode *aii_tp_filters(aii_tparser *p, aii_tnode *a, bool bare);
aii_tnode *aii_tp_args(aii_tparser *p, aii_tnode *node);   /* "(...)" into node->items */
aii_tnode *aii_tp_finish(aii_tparser *p, aii_tnode *node); /* sets the height, refuses towers */

struct aii_template {
  aii_mem *mem;
  aii_arena arena;
  const aii_tnode *root;
};

/* ---- a rendering ------------------------------------------------------------------------------------------------------ */

typedef struct aii_tscope {
  struct aii_tscope *parent;
  aii_tmap vars;
} aii_tscope;

struct aii_tmacro {
  const aii_tnode *node;
  aii_tscope *scope; /* where it was defined */
};

typedef struct aii_trun {
  aii_arena arena;
  aii_mem *mem;
  aii_buf *out;
  aii_tscope *scope;
  uint32_t depth, line;
  const aii_vocab *guard;
  uint64_t steps, max_steps;
  int64_t now_s;
  size_t out_bytes; /* over all buffers */
  aiinfra_status rc;
  aiinfra_error *err;
} aii_trun;

typedef struct aii_targs {
  aii_tv *items;
  size_t n;
  aii_tv *names, *named; /* keyword arguments */
  size_t n_named;
} aii_targs;

bool aii_t_fail(aii_trun *run, aiinfra_status rc, const char *fmt, ...) AII_PRINTF(3, 4);
bool aii_t_step(aii_trun *run, size_t n);
void *aii_t_new(aii_trun *run, size_t size);
bool aii_t_eval(aii_trun *run, const aii_tnode *node, aii_tv *out);
/* What a statement captures is filtered under this name, which no template can write. */
#define AII_T_BODY "(body)"
bool aii_t_call_macro(aii_trun *run, const aii_tmacro *macro, const aii_targs *args, aii_tv *out);
bool aii_t_set(aii_trun *run, aii_tscope *scope, aii_tv name, aii_tv value);
const aii_tv *aii_t_lookup(aii_trun *run, aii_tv name);
/* The n-th argument, or the one of that name; NULL: not given. */
const aii_tv *aii_t_arg(const aii_targs *args, size_t nth, const char *name);
bool aii_t_emit(aii_trun *run, const char *s, size_t n);

/* values (tmpl_value.c, tmpl_text.c) */
aii_tv aii_tv_lit(const char *s); /* a string that lives for ever */
aii_tv aii_tv_strn(const char *s, size_t n);
aii_tv aii_tv_int(int64_t i);
aii_tv aii_tv_float(double f);
aii_tv aii_tv_bool(bool b);
aii_tv aii_tv_none(void);
aii_tv aii_tv_undefined(aii_tv name);
bool aii_tv_is(aii_tv s, const char *text);
bool aii_tv_truth(aii_tv v);
bool aii_tv_number(aii_tv v, double *f); /* bool, int, float */
bool aii_tv_indexed(aii_tv v);           /* a list or tuple, not a view or generator */
const char *aii_tv_type_name(aii_tv v);
bool aii_tv_equal(aii_trun *run, aii_tv a, aii_tv b, bool *equal);
bool aii_tv_compare(aii_trun *run, aii_tv a, aii_tv b, int *order);
bool aii_tv_copy(aii_trun *run, const char *s, size_t n, aii_tv *out);
bool aii_tv_from_buf(aii_trun *run, aii_buf *buf, aii_tv *out); /* frees buf */
bool aii_tv_list(aii_trun *run, size_t cap, aii_tv *out);
bool aii_tv_append(aii_trun *run, aii_tlist *list, aii_tv item);
bool aii_tv_map(aii_trun *run, aii_tv *out);
bool aii_tv_put(aii_trun *run, aii_tmap *map, aii_tv key, aii_tv value);
aii_tv *aii_tv_get(const aii_tmap *map, aii_tv key);           /* string and integer keys; NULL: none */
bool aii_tv_iterate(aii_trun *run, aii_tv v, aii_tlist **out); /* items, keys of a map, characters of a string */
bool aii_tv_from_json(aii_trun *run, const char *text, const char *what, aii_tv *out);
bool aii_tv_str(aii_trun *run, aii_tv v, aii_tv *out); /* as str() */
bool aii_tv_write(aii_trun *run, aii_tv v, aii_buf *buf, bool repr);
void aii_tv_write_float(double f, aii_buf *buf);
bool aii_tv_tojson(aii_trun *run, aii_tv v, const aii_targs *args, aii_tv *out);

/* operators (tmpl_op.c), filters and tests (tmpl_filter.c, tmpl_seq.c), methods and functions (tmpl_method.c, ...) */
bool aii_t_binary(aii_trun *run, aii_top op, aii_tv a, aii_tv b, aii_tv *out);
bool aii_t_contains(aii_trun *run, aii_tv container, aii_tv item, bool *found);
bool aii_t_item(aii_trun *run, aii_tv container, aii_tv key, aii_tv *out);
bool aii_t_attr(aii_trun *run, aii_tv container, aii_tv name, aii_tv *out);
bool aii_t_slice(aii_trun *run, aii_tv v, aii_tv from, aii_tv to, aii_tv step, aii_tv *out);
bool aii_t_filter(aii_trun *run, aii_tv name, aii_tv v, const aii_targs *args, aii_tv *out);
/* Filters of sequences; *known false: no such filter. */
bool aii_t_seq_filter(aii_trun *run, aii_tv name, aii_tv v, const aii_targs *args, aii_tv *out, bool *known);
bool aii_t_test(aii_trun *run, aii_tv name, aii_tv v, const aii_targs *args, bool *out);
bool aii_t_has_method(aii_tv v, aii_tv name);
bool aii_t_method(aii_trun *run, aii_tv self, aii_tv name, const aii_targs *args, aii_tv *out);
bool aii_t_str_method(aii_trun *run, aii_tv self, aii_tv name, const aii_targs *args, aii_tv *out);
bool aii_t_function(aii_trun *run, aii_tv name, const aii_targs *args, aii_tv *out);
bool aii_t_is_function(aii_tv name);
bool aii_t_escape(aii_trun *run, aii_tv v, aii_tv *out); /* for HTML; what is safe stays as it is */
bool aii_t_strip(aii_trun *run, aii_tv s, aii_tv chars, bool left, bool right, aii_tv *out);
bool aii_t_replace(aii_trun *run, aii_tv s, aii_tv from, aii_tv to, int64_t count, aii_tv *out);
bool aii_t_case(aii_trun *run, aii_tv s, int how, aii_tv *out); /* 'u', 'l', 't', 'c' */

#endif
