/* torture.c - the frame of the torture tests: counting, the runs, and the balances. See torture.h.
 *
 * Invariants:
 *   1. Faults happen only while `armed`, and never while `pauses` is above zero.
 *   2. The live counts are kept at all times, armed or not, so that blocks may outlive the moment.
 *   3. The frame itself allocates and prints only while not armed.
 * A leak is a balance that grows each time the same fault is repeated: a cache that fills once is none.
 */
#include "tests/torture/torture.h"

#include <dirent.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/torture/faults.h"

#define DEFAULT_MAX_CALLS 250
#define DEFAULT_RUN_SECONDS 60
#define REPEATS 3  /* a leak shows each time */
#define MAX_TOLD 5 /* violations told in full */
#define TRACE_DEPTH 48

typedef struct balance {
  long hook_blocks, malloc_blocks, fds;
} balance;

static struct {
  const char *name;
  const torture_opts *opts;
  unsigned sources;
  _Atomic bool armed;
  _Atomic int pauses;
  const char *phase;
  _Atomic unsigned long calls, injected, by_source[3], skipped;
  unsigned long fail_at; /* 0: only count */
  bool forever, tracing, quiet;
  _Atomic bool traced;
  void *trace[TRACE_DEPTH];
  int trace_depth;
  int violations;
  int run_violations;
  _Atomic long hook_blocks;
} now;

/* ---- faults -------------------------------------------------------------------------------------------------- */

bool torture_should_fail(unsigned source)
{
  unsigned long n;
  if (!now.armed || (now.sources & source) == 0) return false;
  if (now.pauses > 0) {
    now.skipped++;
    return false;
  }
  n = ++now.calls;
  now.by_source[source >> 1]++;
  if (now.fail_at == 0 || (now.forever ? n < now.fail_at : n != now.fail_at)) return false;
  now.injected++;
  if (now.tracing && !atomic_exchange(&now.traced, true)) {
    now.pauses++;
    now.trace_depth = backtrace(now.trace, TRACE_DEPTH);
    now.pauses--;
  }
  return true;
}

static void *hook_alloc(void *user, size_t size)
{
  void *ptr;
  (void)user;
  if (torture_should_fail(TORTURE_HOOK)) return NULL;
  ptr = torture_real_realloc(NULL, size);
  if (ptr != NULL) now.hook_blocks++;
  return ptr;
}

static void *hook_resize(void *user, void *ptr, size_t size)
{
  (void)user;
  return torture_should_fail(TORTURE_HOOK) ? NULL : torture_real_realloc(ptr, size);
}

static void hook_release(void *user, void *ptr)
{
  (void)user;
  now.hook_blocks--;
  torture_real_free(ptr);
}

const aiinfra_allocator *torture_allocator(void)
{
  static const aiinfra_allocator hooks = {hook_alloc, hook_resize, hook_release, NULL};
  return &hooks;
}

/* ---- what a scenario says ------------------------------------------------------------------------------------ */

void torture_pause(const char *phase)
{
  now.phase = phase;
  now.pauses++;
}

void torture_resume(void)
{
  now.pauses--;
}

bool torture_fault_seen(void)
{
  return now.injected > 0;
}

static void violation(const char *what)
{
  bool armed = atomic_exchange(&now.armed, false);
  if (now.quiet) {
    now.armed = armed;
    return;
  }
  now.run_violations++;
  if (now.violations++ < MAX_TOLD) {
    printf("torture %s: call %lu, %s: %s\n", now.name, now.fail_at, now.forever ? "from then on" : "once", what);
    fflush(stdout);
  }
  now.armed = armed;
}

aiinfra_status torture_made(aiinfra_status rc, const void *out_address, const char *what)
{
  char text[160];
  void *out;
  memcpy(&out, out_address, sizeof out);
  if ((rc == AIINFRA_OK) == (out == NULL)) {
    snprintf(text, sizeof text, "%s returned %s and %s", what, aiinfra_status_name(rc),
             out == NULL ? "no object" : "an object");
    violation(text);
  }
  return rc;
}

bool torture_check(bool holds, const char *what)
{
  if (!holds) violation(what);
  return holds;
}

/* ---- one run ------------------------------------------------------------------------------------------------- */

/* Only names the place: everything here is safe in a signal handler. */
static void on_signal(int sig)
{
  char text[256];
  int n;
  now.armed = false;
  n = snprintf(text, sizeof text, "torture %s: call %lu, %s: signal %d (%s)\n", now.name, now.fail_at,
               now.forever ? "from then on" : "once", sig, sig == SIGALRM ? "it hangs" : "it crashed");
  if (write(STDOUT_FILENO, text, (size_t)n) < 0) _exit(1);
  if (now.trace_depth > 0) backtrace_symbols_fd(now.trace, now.trace_depth, STDOUT_FILENO);
  signal(sig, SIG_DFL);
  raise(sig == SIGALRM ? SIGKILL : sig);
}

static long count_fds(void)
{
  DIR *dir = opendir("/proc/self/fd");
  long n = 0;
  if (dir == NULL) return 0;
  while (readdir(dir) != NULL) n++;
  closedir(dir);
  return n;
}

static balance take_balance(void)
{
  balance b = {now.hook_blocks, 0, 0};
  b.fds = count_fds();
  b.malloc_blocks = torture_live_blocks();
  return b;
}

static bool allowed(aiinfra_status rc)
{
  const torture_opts *o = now.opts;
  if (rc == AIINFRA_ENOMEM) return true;
  if ((now.sources & TORTURE_IO) != 0 && (rc == AIINFRA_EIO || rc == AIINFRA_ENOSPC)) return true;
  for (size_t i = 0; o != NULL && i < o->n_allowed; i++) {
    if (o->allowed[i] == rc) return true;
  }
  return false;
}

static aiinfra_status run_armed(torture_scenario scenario, void *ctx, unsigned long fail_at, bool forever)
{
  aiinfra_status rc;
  now.calls = now.injected = now.skipped = 0;
  memset((void *)now.by_source, 0, sizeof now.by_source);
  now.fail_at = fail_at;
  now.forever = forever;
  now.pauses = 0;
  now.traced = false;
  now.trace_depth = 0;
  alarm(now.opts != NULL && now.opts->run_seconds > 0 ? now.opts->run_seconds : DEFAULT_RUN_SECONDS);
  now.armed = true;
  rc = scenario(ctx);
  now.armed = false;
  alarm(0);
  return rc;
}

static void check_balance(torture_scenario scenario, void *ctx, balance before)
{
  char text[160];
  balance after = take_balance(), first = before, last = after;
  unsigned long fail_at = now.fail_at;
  bool forever = now.forever;
  for (int i = 0; i < REPEATS; i++) {
    if (last.hook_blocks <= before.hook_blocks && last.malloc_blocks <= before.malloc_blocks && last.fds <= before.fds)
      return;
    before = last;
    now.quiet = true;
    run_armed(scenario, ctx, fail_at, forever);
    now.quiet = false;
    last = take_balance();
  }
  if (last.hook_blocks > before.hook_blocks || last.malloc_blocks > before.malloc_blocks || last.fds > before.fds) {
    snprintf(text, sizeof text, "each run leaves behind %ld blocks of the library, %ld of malloc, %ld descriptors",
             after.hook_blocks - first.hook_blocks, after.malloc_blocks - first.malloc_blocks, after.fds - first.fds);
    violation(text);
  }
}

/* Prints the stack of the fault, with function names and lines for the parts that are ours. */
static void print_trace(void)
{
  char exe[512], command[2048];
  ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
  size_t used;
  if (n < 0) return;
  exe[n] = '\0';
  used = (size_t)snprintf(command, sizeof command, "addr2line -sfpe '%s'", exe);
  for (int i = 1; i < now.trace_depth && used + 32 < sizeof command; i++) {
    Dl_info at;
    if (dladdr(now.trace[i], &at) != 0 && at.dli_fname != NULL && strstr(at.dli_fname, ".so") == NULL) {
      uintptr_t offset = (uintptr_t)now.trace[i] - (uintptr_t)at.dli_fbase - 1;
      used += (size_t)snprintf(command + used, sizeof command - used, " 0x%lx", (unsigned long)offset);
    } else {
      printf("  in %s\n", at.dli_fname != NULL ? at.dli_fname : "?");
    }
  }
  fflush(stdout);
  if (system(command) != 0) backtrace_symbols_fd(now.trace, now.trace_depth, STDOUT_FILENO);
}

/* Runs the same fault once more to print where it struck. */
static void show_fault(torture_scenario scenario, void *ctx, unsigned long fail_at, bool forever)
{
  bool tracing = now.tracing;
  now.tracing = now.quiet = true;
  run_armed(scenario, ctx, fail_at, forever);
  now.tracing = tracing;
  now.quiet = false;
  printf("torture %s: call %lu, %s, is here:\n", now.name, fail_at, forever ? "from then on" : "once");
  print_trace();
}

/* One fault, all demands. Returns false when the fault was never reached. */
static bool try_fault(torture_scenario scenario, void *ctx, unsigned long fail_at, bool forever,
                      unsigned long *absorbed)
{
  char text[160];
  balance before = take_balance();
  aiinfra_status rc;
  bool reached;
  now.run_violations = 0;
  rc = run_armed(scenario, ctx, fail_at, forever);
  reached = now.injected > 0;
  if (rc == AIINFRA_OK) {
    *absorbed += reached;
  } else if (!reached || !allowed(rc)) {
    snprintf(text, sizeof text, "returned %s%s", aiinfra_status_name(rc), reached ? "" : " though nothing failed");
    violation(text);
  }
  check_balance(scenario, ctx, before);
  if ((now.tracing && reached) || (now.run_violations > 0 && now.violations <= MAX_TOLD))
    show_fault(scenario, ctx, fail_at, forever);
  return reached;
}

/* ---- all runs ------------------------------------------------------------------------------------------------ */

static void handle_signals(bool on)
{
  static const int signals[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGALRM};
  static void (*old[sizeof signals / sizeof signals[0]])(int);
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
    if (on) {
      old[i] = signal(signals[i], on_signal);
    } else {
      signal(signals[i], old[i]);
    }
  }
}

int torture_run(const char *name, torture_scenario scenario, void *ctx, const torture_opts *opts)
{
  const char *full = getenv("AIINFRA_TORTURE_FULL"), *at = getenv("AIINFRA_TORTURE_AT");
  unsigned long max_calls = opts != NULL && opts->max_calls > 0 ? opts->max_calls : DEFAULT_MAX_CALLS;
  unsigned long counted, step = 1, runs = 0, absorbed = 0, skipped, first = 1, last;
  unsigned long by[3];
  aiinfra_status rc;

  now.name = name;
  now.opts = opts;
  now.sources = opts != NULL && opts->sources != 0 ? opts->sources : TORTURE_HOOK | TORTURE_MALLOC;
  now.violations = 0;
  now.phase = NULL;
  now.quiet = now.tracing = false;
  now.trace_depth = backtrace(now.trace, TRACE_DEPTH); /* its first call loads a library */
  torture_find_spared();
  handle_signals(true);

  rc = run_armed(scenario, ctx, 0, false); /* fills caches, starts pools */
  if (rc == AIINFRA_OK) rc = run_armed(scenario, ctx, 0, false);
  if (rc != AIINFRA_OK) {
    handle_signals(false);
    printf("torture %s: fails without any fault: %s\n", name, aiinfra_status_name(rc));
    return 1;
  }
  counted = last = now.calls;
  skipped = now.skipped;
  for (int i = 0; i < 3; i++) by[i] = now.by_source[i];
  if (full == NULL && counted > max_calls) step = (counted + max_calls - 1) / max_calls;
  if (at != NULL) {
    first = last = strtoul(at, NULL, 10);
    now.tracing = true;
  }

  for (int forever = 0; forever <= 1; forever++) {
    for (unsigned long n = first; n <= last; n += step, runs++) {
      if (!try_fault(scenario, ctx, n, forever != 0, &absorbed)) break;
    }
  }
  handle_signals(false);
  now.tracing = false;
  printf("torture %s: %lu fallible calls (library %lu, malloc %lu, file %lu; not tried: %lu in %s), %lu runs%s, "
         "%lu absorbed: %s\n",
         name, counted, by[0], by[1], by[2], skipped, now.phase != NULL ? now.phase : "set-up", runs,
         step > 1 ? " (sampled)" : "", absorbed, now.violations == 0 ? "ok" : "VIOLATIONS");
  fflush(stdout);
  return now.violations;
}
