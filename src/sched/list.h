/* src/sched/list.h - sequences in order of importance, inside the scheduler only. */
#ifndef AII_SCHED_LIST_H
#define AII_SCHED_LIST_H

#include "src/sched/sched.h"

typedef struct aii_seq_list {
  aii_seq *head, *tail; /* the most important first */
  uint32_t n;
} aii_seq_list;

/* Whether a goes before b: a higher priority, or the same and older. */
bool aii_seq_before(const aii_seq *a, const aii_seq *b);
void aii_seq_list_insert(aii_seq_list *list, aii_seq *seq); /* in its place */
void aii_seq_list_append(aii_seq_list *list, aii_seq *seq); /* at the end, whatever its importance */
void aii_seq_list_remove(aii_seq_list *list, aii_seq *seq);

#endif
