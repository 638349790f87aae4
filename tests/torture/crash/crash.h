/* crash.h - dies at every change of the disk, and looks at what is left.
 *
 * A scenario is a list of numbered steps in a process of its own, each of which is committed when it returns. It is run
 * once to count the calls that change files; then for each kind of fault and each call (in the short form for some of
 * them) again, in a new folder. What is left must be that of all steps that returned, or of one step more, since a step
 * may be committed and die before it returns.
 *
 * Environment: AIINFRA_TORTURE_FULL=1 tries every call; AIINFRA_CRASH_AT=fault:call tries one, such as 3:17.
 */
#ifndef AIINFRA_TESTS_CRASH_H
#define AIINFRA_TESTS_CRASH_H

#include "aiinfra.h"
#include "tests/torture/crash/disk.h"

typedef struct crash_scenario {
  const char *name;
  int n_steps;
  /* In the process that dies: everything. Calls crash_done(step, rc) behind each step, from 0, and returns when it says
   * false. A step that failed may be tried again. */
  void (*work)(aiinfra_runtime *rt, const char *db_path);
  /* Afterwards: whether the database is as after so many steps. Says on stderr why not when `loud`. */
  int (*holds)(aiinfra_runtime *rt, const char *db_path, int steps, int loud);
  int runs; /* of each kind of fault, in the short form */
} crash_scenario;

/* Notes that a step has ended; false: stop. */
int crash_done(int step, aiinfra_status rc);

/* The number of violations, each told on stderr. */
int crash_run(const crash_scenario *s);

#endif
