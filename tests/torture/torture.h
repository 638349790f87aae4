/* torture.h - fail every fallible call of a scenario, one at a time, and see that nothing breaks.
 *
 * A scenario is a function that does something worth doing with the library (open, use, close) and returns the
 * status of it. torture_run() runs it unharmed to warm up and to count its fallible calls, then again and again:
 * with the n-th call failing once, and with the n-th and every later one failing. After each run it demands that
 *   - the status is AIINFRA_OK (the fault was absorbed) or one that the options allow, ENOMEM by default
 *   - what torture_made() and torture_check() were told held: *out is NULL on failure, and so on
 *   - no block and no file descriptor is left over
 *
 * Fallible calls are those of the allocator of torture_allocator(), which the scenario gives to its runtime, and,
 * from anywhere in the process (SQLite, jansson), malloc and friends and, if asked for, reads, writes and
 * syncs of files. Calls made by libuv, the dynamic linker and OpenBLAS never fail: those end the process by their
 * own design when memory is out. Under a sanitizer only the allocator's calls fail.
 *
 * Rules for a scenario: leave nothing running when it returns; make no cmocka assertions (they jump out of it), but
 * torture_check(); wrap set-up that is not under test in torture_pause("set-up") and torture_resume().
 *
 * Environment: AIINFRA_TORTURE_FULL=1 tries every call, however many (the default samples long scenarios);
 * AIINFRA_TORTURE_AT=n tries only the n-th and prints where it was.
 */
#ifndef AIINFRA_TESTS_TORTURE_H
#define AIINFRA_TESTS_TORTURE_H

#include <stdbool.h>
#include <stddef.h>

#include "aiinfra/types.h"

enum {
  TORTURE_HOOK = 1,   /* the allocator of torture_allocator() */
  TORTURE_MALLOC = 2, /* malloc, calloc, realloc and aligned ones, by anybody; so strdup, fopen... */
  TORTURE_IO = 4      /* read, write, fsync, ftruncate and friends on files, by anybody: EIO or ENOSPC */
};

typedef struct torture_opts {
  unsigned sources;              /* 0: TORTURE_HOOK | TORTURE_MALLOC */
  const aiinfra_status *allowed; /* what may be returned besides OK and ENOMEM (with TORTURE_IO also EIO, ENOSPC) */
  size_t n_allowed;
  unsigned long max_calls; /* 0: 250; more calls than that are sampled evenly */
  unsigned run_seconds;    /* 0: 60; a run that takes longer hangs */
} torture_opts;

typedef aiinfra_status (*torture_scenario)(void *ctx);

/* Runs the scenario through all of its faults and prints one line, or what went wrong and where.
 * Returns the number of violations: assert_int_equal(torture_run("db.open", open_db, NULL, NULL), 0). */
int torture_run(const char *name, torture_scenario scenario, void *ctx, const torture_opts *opts);

/* The allocator to give to the library: counted, and failing on demand. Good for the whole program. */
const aiinfra_allocator *torture_allocator(void);

/* From here no call fails or counts, on any thread, until torture_resume(). Pauses nest. */
void torture_pause(const char *phase);
void torture_resume(void);

/* Says what a call that creates something returned: the pointer at out_address must be NULL exactly if rc is not OK.
 * Returns rc: rc = torture_made(aiinfra_kv_create(model, NULL, &kv, NULL), &kv, "kv_create"); */
aiinfra_status torture_made(aiinfra_status rc, const void *out_address, const char *what);

/* A violation if it does not hold. Returns whether it holds. */
bool torture_check(bool holds, const char *what);

/* Whether a call has failed in this run. Before that, everything must work. */
bool torture_fault_seen(void);

#endif
