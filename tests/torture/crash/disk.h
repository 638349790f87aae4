/* disk.h - a disk that fails: calls that change files are counted, one of them fails or is the process's last, and what
 * was not synced may be lost, as when the power goes.
 *
 * The calls of the C library stand in for a shim below SQLite's: so the files that the library writes itself are seen,
 * too. Only files below test_tmp_dir() count, and not SQLite's shared memory. Nothing is really synced: a sync only ends
 * the time in which a write, a new name or a removed one can be lost. A folder's names are safe once it is synced.
 */
#ifndef AIINFRA_TESTS_DISK_H
#define AIINFRA_TESTS_DISK_H

typedef enum disk_fault {
  DISK_NONE,       /* only count */
  DISK_KILL,       /* the process ends before the call; all that was written stays */
  DISK_TEAR,       /* the process ends in the middle of the call: half of a write stays */
  DISK_POWER,      /* the power goes before the call: all that was not synced is lost */
  DISK_POWER_SOME, /* the same, but some of it is there, some of it by half */
  DISK_FULL,       /* from this call on there is no room: ENOSPC */
  DISK_BROKEN,     /* this call fails: EIO */
  DISK_FAULTS
} disk_fault;

/* From here on, in this process, calls count; the at-th (from 1) has the fault. */
void disk_arm(disk_fault fault, long at, unsigned long long seed);
/* Calls that counted so far. */
long disk_calls(void);
/* The power goes, now. Does not return. */
void disk_power_off(void) __attribute__((noreturn));

#endif
