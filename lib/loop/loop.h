/* lib/loop/loop.h - the event loop: the host's uv_loop_t or our own, and what we put on it.
 *
 * Everything on this page belongs to the loop's thread, except aii_loop_post(), which any thread may call. Nothing
 * here runs a callback inside the call that asked for it. An idle loop object does not keep uv_run() going; work in
 * flight does: aii_loop_hold() and aii_loop_drop() count it.
 */
#ifndef AII_LOOP_H
#define AII_LOOP_H

#include "lib/base/base.h"

struct uv_loop_s;
typedef struct aii_loop aii_loop;

/* host NULL: makes a loop of its own. */
aiinfra_status aii_loop_create(aii_mem *mem, struct uv_loop_s *host, aii_loop **out, aiinfra_error *err);
/* Ends the loop object: closes its handles, calls closed(user) from the loop's last turn, frees itself. With a loop of
 * our own this also runs it until then. Nothing may be posted or held any more. */
void aii_loop_close(aii_loop *loop, void (*closed)(void *user), void *user);
struct uv_loop_s *aii_loop_uv(aii_loop *loop);
bool aii_loop_owned(const aii_loop *loop);

/* A unit of work that lives in its owner's memory: posting never allocates, never fails. */
typedef struct aii_task {
  struct aii_task *next;
  void (*fn)(struct aii_task *task); /* AII_CONTAINER() finds the owner */
} aii_task;
/* Runs task->fn on the loop's thread, in order. Any thread. The task must not be posted again before it ran. Whoever
 * posts from another thread must hold the loop (a request in flight does). */
void aii_loop_post(aii_loop *loop, aii_task *task);

bool aii_loop_here(const aii_loop *loop); /* on the thread that created it? any thread */
void aii_loop_hold(aii_loop *loop);       /* uv_run() goes on while somebody holds */
void aii_loop_drop(aii_loop *loop);

/* One-shot timers. A timer does not hold the loop unless started with hold. */
typedef struct aii_timer aii_timer;
aiinfra_status aii_timer_create(aii_loop *loop, void (*fn)(void *user), void *user, aii_timer **out,
                                aiinfra_error *err);
void aii_timer_start(aii_timer *timer, uint64_t delay_ms, bool hold); /* restarts a running one */
void aii_timer_stop(aii_timer *timer);
void aii_timer_free(aii_timer *timer); /* stops; memory goes as the loop turns */

/* Runs run(user) on libuv's thread pool and then done(user) on the loop; holds the loop meanwhile. */
aiinfra_status aii_loop_work(aii_loop *loop, void (*run)(void *user), void (*done)(void *user), void *user,
                             aiinfra_error *err);

/* Runs the loop: until nothing is left or aii_loop_stop(); `until` (may be NULL) ends it early when true. EINVAL inside
 * a callback of ours; ETIMEDOUT after timeout_ms >= 0. */
aiinfra_status aii_loop_run(aii_loop *loop, bool (*until)(void *user), void *user, int64_t timeout_ms,
                            aiinfra_error *err);
/* Runs until nothing is left, however often aii_loop_stop() is called. Does nothing inside a callback of ours. */
void aii_loop_drain(aii_loop *loop);
void aii_loop_stop(aii_loop *loop); /* any thread */
bool aii_loop_in_callback(const aii_loop *loop);
/* Marks that host code is being called back from here until leave: nested running is then refused. */
void aii_loop_enter(aii_loop *loop);
void aii_loop_leave(aii_loop *loop);

#endif
