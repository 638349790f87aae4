/* thread.c - how compute threads share cores with everybody else's threads. */
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/base.h"

#define LONG_SLICE_NS (100 * UINT64_C(1000000)) /* the most that the kernel takes */

/* The kernel's struct sched_attr (sched_setattr(2)), as far as we use it. */
typedef struct sched_attributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
} sched_attributes;

void aii_thread_prefer_others(void)
{
#if defined(SYS_sched_getattr) && defined(SYS_sched_setattr)
  sched_attributes attr = {.size = sizeof attr};
  if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) != 0 || attr.policy != SCHED_OTHER) return;
  attr.runtime = LONG_SLICE_NS;
  (void)syscall(SYS_sched_setattr, 0, &attr, 0);
#endif
}
