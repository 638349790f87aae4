/* src/vector/snapshot.h - the index of a collection as a file, and who keeps it: snapshot.c writes and reads the file,
 * keep.c knows which one counts and when the next is due.
 */
#ifndef AII_VECTOR_SNAPSHOT_H
#define AII_VECTOR_SNAPSHOT_H

#include "src/vector/vector.h"

/* What a file must say of itself to be the one that the database means. */
typedef struct aii_snapshot_id {
  uint8_t uuid[16];   /* of the database */
  uint64_t nonce;     /* of this one file */
  int64_t collection; /* its number */
  int64_t gen;
  int64_t max_seq; /* rows up to here are in it */
} aii_snapshot_id;

typedef struct aii_snapshot_size {
  uint32_t n, n_graph;
  uint64_t bytes;
} aii_snapshot_size;

/* Writes the index into a new file at `path`, which appears when it is complete and on the disk. Fills id->max_seq and
 * *size. ECANCELED: there is no graph to write. The graph cannot grow meanwhile; searches and writes go on. No lock
 * held. */
aiinfra_status aii_snapshot_write(aii_index *index, aii_snapshot_id *id, const char *path, aii_snapshot_size *size,
                                  aiinfra_error *err);
/* Fills the empty index from a file, after checking all of it. Floats are not read: where index->floats is true
 * afterwards, they are zero and must be filled in. On failure the index is empty again; EFORMAT: it is not the one that
 * is meant, or is damaged. Write lock held. */
aiinfra_status aii_snapshot_read(aii_index *index, const aii_snapshot_id *id, int fd, aiinfra_error *err);
/* Makes all sums of such a file right again, for tests that change one; false: it is too short for that. */
bool aii_snapshot_seal(const aii_index *index, uint8_t *bytes, size_t n);

/* keep.c. Loads the snapshot that the database names, once in a store's life and if the index is empty; what cannot be
 * used is told to the log, and the graph is made anew behind the caller's back. Connection's and index's write lock held.
 */
void aii_keep_load(aiinfra_vecstore *store, int64_t seq);
/* The graph may have grown: when it is time, a thread writes a snapshot. No lock held. */
void aii_keep_grown(aiinfra_vecstore *store);
/* The store goes: its thread ends, and what is worth it is written. No lock held, no other user left. */
void aii_keep_close(aiinfra_vecstore *store);

#endif
