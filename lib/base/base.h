/* lib/base/base.h - the ground floor: errors, memory, options, text buffers, logging, time.
 *
 * Knows nothing of AI and nothing of the other libraries. Everything above includes this header.
 *
 * Errors: a function that fails fills the caller's aiinfra_error once with aii_fail(), and each caller on the way
 * up may add context with aii_wrap(): "open model.gguf: tensor 'x': offset lies outside the file". Both return the
 * status, so `return aii_fail(err, AIINFRA_EINVAL, "...")` is the usual form. err may be NULL.
 *
 * Memory: aii_mem is a counted allocator over the host's hooks. Sizes are checked with aii_size_mul() and
 * aii_size_add() before use when they come from outside. aii_del() wants the size, so that the balance is exact.
 */
#ifndef AII_BASE_H
#define AII_BASE_H

#include <assert.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "aiinfra/types.h"

#define AII_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define AII_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define AII_MIN(a, b) ((a) < (b) ? (a) : (b))
#define AII_MAX(a, b) ((a) > (b) ? (a) : (b))
/* The struct that contains `member` at address `ptr`. */
#define AII_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* ---- errors (error.c) ---------------------------------------------------------------------------------------- */

/* Fills *err with the message and returns status. */
aiinfra_status aii_fail(aiinfra_error *err, aiinfra_status status, const char *fmt, ...) AII_PRINTF(3, 4);
/* The same with the code of the system or library behind the failure (errno, SQLite, CUDA). */
aiinfra_status aii_fail_code(aiinfra_error *err, aiinfra_status status, int code, const char *fmt, ...)
    AII_PRINTF(4, 5);
/* Puts "context: " before the message already in *err and returns status. */
aiinfra_status aii_wrap(aiinfra_error *err, aiinfra_status status, const char *fmt, ...) AII_PRINTF(3, 4);
/* Fills *err from an errno value: "<context>: <strerror>"; ENOMEM, ENOENT, EACCES... become their own status. */
aiinfra_status aii_fail_errno(aiinfra_error *err, int errnum, const char *fmt, ...) AII_PRINTF(3, 4);

/* ---- memory (mem.c) ------------------------------------------------------------------------------------------ */

typedef struct aii_mem {
  aiinfra_allocator hooks;
  _Atomic size_t used_bytes; /* by aii_new and friends; zero again when everything is freed */
  _Atomic size_t peak_bytes;
  size_t limit_bytes; /* 0: no limit; above it allocations fail as if memory were out */
} aii_mem;

/* hooks may be NULL: malloc, realloc, free. */
void aii_mem_init(aii_mem *mem, const aiinfra_allocator *hooks, size_t limit_bytes);

void *aii_new(aii_mem *mem, size_t size);                      /* zeroed; NULL when memory is out or size is 0 */
void *aii_new_raw(aii_mem *mem, size_t size);                  /* not zeroed */
void *aii_new_array(aii_mem *mem, size_t n, size_t elem_size); /* zeroed, overflow checked */
/* Resizes; new bytes are not zeroed. On failure NULL, and the old memory is as before. ptr NULL: as aii_new_raw. */
void *aii_resize(aii_mem *mem, void *ptr, size_t old_size, size_t new_size);
void aii_del(aii_mem *mem, void *ptr, size_t size); /* ptr may be NULL */
/* Aligned to 64 bytes for vector loads. Freed with aii_del_aligned. Not zeroed. */
void *aii_new_aligned(aii_mem *mem, size_t size);
void aii_del_aligned(aii_mem *mem, void *ptr, size_t size);
char *aii_strdup(aii_mem *mem, const char *s);            /* free with aii_strfree */
char *aii_strndup(aii_mem *mem, const char *s, size_t n); /* n bytes; must hold no NUL for aii_strfree */
void aii_strfree(aii_mem *mem, char *s);                  /* size is strlen + 1 */

/* Overflow checked arithmetic on sizes that come from outside: false on overflow. */
bool aii_size_mul(size_t a, size_t b, size_t *out);
bool aii_size_add(size_t a, size_t b, size_t *out);

/* A string for a public `char **`: freed by the host with aiinfra_string_free(). NULL when memory is out. */
char *aii_export_string(aii_mem *mem, const char *s, size_t n);

/* ---- growing arrays -------------------------------------------------------------------------------------------
 * `T *items; size_t n, cap;` grown geometrically: if (!aii_grow(mem, &items, &cap, n + 1, sizeof *items)) ENOMEM */
bool aii_grow_(aii_mem *mem, void **items, size_t *cap, size_t want, size_t elem_size);
#define aii_grow(mem, items, cap, want, elem_size) \
  aii_grow_((mem), (void **)(void *)(items), (cap), (want), (elem_size))

/* ---- text buffers (buf.c) ------------------------------------------------------------------------------------
 * A growing byte string that is always NUL-terminated once something was added. A failed allocation is sticky:
 * check buf.failed once at the end. `max` bounds it (0: no bound); beyond it `failed` is set and `over` too. */
typedef struct aii_buf {
  aii_mem *mem;
  char *data; /* NULL while empty; aii_buf_str gives "" then */
  size_t len, cap, max;
  bool failed, over;
} aii_buf;

void aii_buf_init(aii_buf *buf, aii_mem *mem, size_t max);
void aii_buf_free(aii_buf *buf);
void aii_buf_clear(aii_buf *buf); /* keeps the memory */
void aii_buf_add(aii_buf *buf, const void *bytes, size_t n);
void aii_buf_str(aii_buf *buf, const char *s);
void aii_buf_char(aii_buf *buf, char c);
void aii_buf_line(aii_buf *buf, const char *text); /* on one line: runs of white space are a space, none at the ends */
void aii_buf_fmt(aii_buf *buf, const char *fmt, ...) AII_PRINTF(2, 3);
/* With so many significant digits and a point, whatever the host's locale says. */
void aii_buf_double(aii_buf *buf, double value, int digits);
void aii_buf_json(aii_buf *buf, const char *s, size_t n); /* as a JSON string with quotes; bad UTF-8 -> U+FFFD */
const char *aii_buf_cstr(const aii_buf *buf);
/* Hands the contents to the host as an exported string and empties the buffer, whatever comes of it: ELIMIT beyond
 * `max`, ENOMEM when anything else failed. */
aiinfra_status aii_buf_export(aii_buf *buf, char **out, aiinfra_error *err);

/* ---- options (opts.c) ----------------------------------------------------------------------------------------
 * Copies the caller's options into the full struct `dst`, whose first member is struct_size. src NULL: zeros.
 * Shorter than min_size: EINVAL. Longer than dst with a non-zero tail: ENOTSUP. */
aiinfra_status aii_opts_load(void *dst, size_t dst_size, const void *src, size_t min_size, const char *type,
                             aiinfra_error *err);
/* `last` is the last member that version 0.1 had. */
#define AII_OPTS_LOAD(dst, src, last, err) \
  aii_opts_load((dst), sizeof *(dst), (src), offsetof(__typeof__(*(dst)), last) + sizeof(dst)->last, #src, (err))

/* ---- log (log.c) --------------------------------------------------------------------------------------------- */

typedef struct aii_log {
  aiinfra_log_fn fn; /* NULL: silent */
  void *user;
  aiinfra_log_level max_level;
} aii_log;
void aii_logf(const aii_log *log, aiinfra_log_level level, const char *fmt, ...) AII_PRINTF(3, 4);

/* ---- time (clock.c) ------------------------------------------------------------------------------------------ */

uint64_t aii_now_ns(void); /* monotonic */
int64_t aii_unix_ms(void); /* wall clock, milliseconds since 1970 */

/* ---- threads (thread.c) -------------------------------------------------------------------------------------- */

/* The calling thread computes for long: it asks the kernel for long slices at the same share, so that a thread which
 * wakes up beside it (the host's loop, say) goes first. Linux 6.12 and later; elsewhere nothing happens. */
void aii_thread_prefer_others(void);

/* ---- plug-ins (library.c) ------------------------------------------------------------------------------------ */

/* Opens a plug-in: the file beside this library, or `path`, which is absolute; calls its function `entry`, which returns
 * its table. It stays open until the process ends. `make` is the verb that builds it. ENOTSUP with the reason when there
 * is none; the caller checks that the table is of its own version. */
aiinfra_status aii_library_open(const char *path, const char *file, const char *entry, const char *make,
                                const void **out, aiinfra_error *err);

/* ---- text (utf8.c) ------------------------------------------------------------------------------------------- */

/* Length in bytes of the UTF-8 sequence at s, of n bytes: 1..4, 0 when it is cut short by the end, -1 when invalid.
 * *cp (may be NULL) receives the code point. Overlong forms and surrogates are invalid. */
int aii_utf8_decode(const char *s, size_t n, uint32_t *cp);
size_t aii_utf8_encode(uint32_t cp, char out[4]); /* bytes written; 0 when cp is no scalar value */
bool aii_utf8_valid(const char *s, size_t n);

/* ---- files that appear when they are complete (aside.c) -------------------------------------------------------- */

typedef struct aii_aside {
  int fd;
  aii_buf path; /* of the file that is being written */
  const char *to;
} aii_aside;
/* Begins a file aside `to`, in the same folder. Nothing is held on failure. */
aiinfra_status aii_aside_open(aii_aside *a, aii_mem *mem, const char *to, aiinfra_error *err);
aiinfra_status aii_aside_write(aii_aside *a, const void *bytes, size_t n, aiinfra_error *err);
/* rc OK: what was written is on the disk and has its name. Else, or when that fails, it is removed. Returns the first
 * failure. */
aiinfra_status aii_aside_close(aii_aside *a, aiinfra_status rc, aiinfra_error *err);

/* ---- hashes and random numbers (hash.c) ---------------------------------------------------------------------- */

uint64_t aii_hash64(const void *data, size_t n, uint64_t seed); /* fast, not cryptographic, stable across versions */
typedef struct aii_rng {
  uint64_t s[4];
} aii_rng;                                      /* xoshiro256** */
void aii_rng_seed(aii_rng *rng, uint64_t seed); /* by splitmix64 */
uint64_t aii_rng_u64(aii_rng *rng);
double aii_rng_unit(aii_rng *rng);                /* [0, 1) with 53 bits */
uint64_t aii_rng_below(aii_rng *rng, uint64_t n); /* uniform in [0, n); n > 0 */

#endif
