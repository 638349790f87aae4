/* list.c - intrusive lists of sequences, sorted from the end: new sequences are mostly the least important. */
#include "src/sched/list.h"

bool aii_seq_before(const aii_seq *a, const aii_seq *b)
{
  return a->priority != b->priority ? a->priority > b->priority : a->order < b->order;
}

static void insert_after(aii_seq_list *list, aii_seq *at, aii_seq *seq)
{
  aii_seq *next = at != NULL ? at->next : list->head;
  seq->prev = at;
  seq->next = next;
  if (at != NULL) at->next = seq;
  else list->head = seq;
  if (next != NULL) next->prev = seq;
  else list->tail = seq;
  list->n++;
}

void aii_seq_list_insert(aii_seq_list *list, aii_seq *seq)
{
  aii_seq *at = list->tail;
  while (at != NULL && aii_seq_before(seq, at)) at = at->prev;
  insert_after(list, at, seq);
}

void aii_seq_list_append(aii_seq_list *list, aii_seq *seq)
{
  insert_after(list, list->tail, seq);
}

void aii_seq_list_remove(aii_seq_list *list, aii_seq *seq)
{
  if (seq->prev != NULL) seq->prev->next = seq->next;
  else list->head = seq->next;
  if (seq->next != NULL) seq->next->prev = seq->prev;
  else list->tail = seq->prev;
  seq->prev = seq->next = NULL;
  list->n--;
}
