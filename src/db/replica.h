/* src/db/replica.h - a local copy of a database whose truth lies in a server: what its parts share.
 *
 *   replica.c       the hooks of its transactions: pull before reading, lock and pull before writing, push at commit
 *   replica_open.c  the URI, the plug-in, the file, the tables
 *   replica_fill.c  brings changes or whole tables into the copy, and the words with them
 */
#ifndef AII_DB_REPLICA_H
#define AII_DB_REPLICA_H

#include "src/db/tables.h"

struct aii_replica {
  aii_mem *mem;
  aii_sql *sql;
  const aii_truth_ops *ops;
  aii_truth *truth;
  aii_tables tables;
  uint64_t sync_ns;                   /* a look at the truth is good for so long */
  uint64_t looked_ns;                 /* when that was; 0: never */
  bool due;                           /* look, whatever the clock says */
  bool distrust;                      /* the copy was found to differ: it is filled anew */
  bool pushed;                        /* the truth has this transaction */
  int64_t version;                    /* of the copy, in this transaction */
  unsigned char uuid[AII_TRUTH_UUID]; /* of the truth that it is a copy of */
  aii_sql_capture *capture;
};

/* replica_fill.c: in a write transaction of the copy. */
aiinfra_status aii_replica_apply(aii_replica *r, const void *changes, size_t n, aiinfra_error *err);
aiinfra_status aii_replica_fill(aii_replica *r, aii_truth_state *state, aiinfra_error *err);
aiinfra_status aii_replica_read_version(aii_replica *r, aiinfra_error *err);
aiinfra_status aii_replica_write_version(aii_replica *r, aiinfra_error *err);

/* replica.c */
aiinfra_status aii_replica_pull(aii_replica *r, aiinfra_error *err);
void aii_replica_hook(aii_replica *r, bool read_only);

#endif
