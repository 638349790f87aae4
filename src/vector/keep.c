/* keep.c - the snapshots of a collection's index: which one counts, when the next is written, which ones go.
 *
 * A row of the table `snapshots` names the one that counts. The happy path of the next:
 *
 *   its generation is taken from the row -> the file is written aside, synced, renamed, its folder synced -> the row names
 *   it, unless that names a newer one by now -> files of older generations are removed
 *
 * A process that dies in between leaves a file that nobody names; the next one to be written removes it. Files lie beside
 * the database as DATABASE-COLLECTION.GENERATION.ann. They are derived: each may be deleted at any time.
 *
 * The happy path of opening: the row -> the file -> rows that are newer than it, which sync.c reads. Whatever is wrong with
 * the file is told to the log, rows are read instead, and a thread makes the graph anew. Another process may replace the
 * file between the look at the row and the opening: then the row is looked at again.
 *
 * The thread of a store lives while there is a graph to make or a snapshot to write.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "src/vector/snapshot.h"
#include "src/vector/tenant.h"

enum {
  LEAST_SLOTS = 4096, /* a smaller graph is made in no time */
  GROWN_PART = 4,     /* written again when the graph has grown by a fourth */
  CLOSE_PART = 64,    /* and when the store is closed, if so much is new */
  BUILD_SLOTS = 64,   /* that the thread adds before it looks up */
  TRIES = 3,
  PAUSE_MS = 5
};

/* ---- names ------------------------------------------------------------------------------------------------------- */

static bool add_path(const aiinfra_vecstore *store, const aii_snapshot_id *id, aii_buf *path)
{
  aii_buf_fmt(path, "%s-%lld.%lld.ann", aii_sql_file(store->db->sql), (long long)id->collection, (long long)id->gen);
  return !path->failed;
}

/* The generation in a name that a snapshot of this collection has, complete or not; -1: it is something else. */
static int64_t gen_of(const char *name, const char *prefix)
{
  size_t n = strlen(prefix);
  char *end;
  if (strncmp(name, prefix, n) != 0 || name[n] < '0' || name[n] > '9') return -1;
  long long gen = strtoll(name + n, &end, 10);
  if (strncmp(end, ".ann", 4) != 0) return -1;
  size_t left = strlen(end);
  bool ours = left == 4 || (left > 9 && strcmp(end + left - 5, ".part") == 0);
  return ours ? gen : -1;
}

/* Removes what is older than the generation. */
static void sweep(aiinfra_db *db, int64_t collection, int64_t gen)
{
  aii_buf folder, prefix, path;
  aii_buf_init(&folder, &db->rt->mem, 0);
  aii_buf_init(&prefix, &db->rt->mem, 0);
  aii_buf_init(&path, &db->rt->mem, 0);
  const char *file = aii_sql_file(db->sql), *slash = strrchr(file, '/');
  aii_buf_add(&folder, slash != NULL ? file : ".", slash != NULL ? (size_t)(slash - file) + 1 : 1);
  aii_buf_fmt(&prefix, "%s-%lld.", slash != NULL ? slash + 1 : file, (long long)collection);
  DIR *dir = folder.failed || prefix.failed ? NULL : opendir(folder.data);
  for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
    int64_t found = gen_of(e->d_name, prefix.data);
    if (found < 0 || found >= gen) continue;
    aii_buf_clear(&path);
    aii_buf_fmt(&path, "%s/%s", folder.data, e->d_name);
    if (!path.failed) (void)unlink(path.data);
  }
  if (dir != NULL) (void)closedir(dir);
  aii_buf_free(&folder);
  aii_buf_free(&prefix);
  aii_buf_free(&path);
}

void aii_keep_remove(aiinfra_db *db, int64_t collection)
{
  if (!aii_sql_is_memory(db->sql)) sweep(db, collection, INT64_MAX);
}

/* ---- the row ----------------------------------------------------------------------------------------------------- */

static aiinfra_status read_uuid(const aiinfra_vecstore *store, aii_snapshot_id *id, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  size_t n = 0;
  aiinfra_status rc = aii_sql_prepare(store->db->sql, "SELECT uuid FROM identity", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_stmt_step(stmt, &row, err);
  const void *uuid = rc == AIINFRA_OK && row ? aii_stmt_get_blob(stmt, 0, &n) : NULL;
  if (n == sizeof id->uuid) memcpy(id->uuid, uuid, n);
  else if (rc == AIINFRA_OK) rc = aii_fail(err, AIINFRA_EFORMAT, "the database has no identity");
  aii_stmt_reset(stmt);
  return rc;
}

/* *found: a snapshot counts. n_graph: slots in its graph; may be NULL. Lock held. */
static aiinfra_status read_row(const aiinfra_vecstore *store, aii_snapshot_id *id, int64_t *n_graph, bool *found,
                               aiinfra_error *err)
{
  aii_stmt *stmt;
  *id = (aii_snapshot_id){.collection = store->collection};
  aiinfra_status rc = aii_sql_prepare(
      store->db->sql, "SELECT gen, nonce, max_seq, n_graph FROM snapshots WHERE collection = ?1 AND gen > 0", &stmt,
      err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  rc = aii_stmt_step(stmt, found, err);
  if (rc == AIINFRA_OK && *found) {
    id->gen = aii_stmt_get_int(stmt, 0);
    id->nonce = (uint64_t)aii_stmt_get_int(stmt, 1);
    id->max_seq = aii_stmt_get_int(stmt, 2);
    if (n_graph != NULL) *n_graph = aii_stmt_get_int(stmt, 3);
  }
  aii_stmt_reset(stmt);
  return rc == AIINFRA_OK && *found ? read_uuid(store, id, err) : rc;
}

/* The next generation, which nobody else gets. */
static aiinfra_status take_gen(const aiinfra_vecstore *store, aii_snapshot_id *id, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(store->db->sql,
                                      "INSERT INTO snapshots(collection, next) SELECT id, 1 FROM collections "
                                      "WHERE id = ?1 ON CONFLICT(collection) "
                                      "DO UPDATE SET next = next + 1 RETURNING next, random()",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id->collection);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && !row) rc = aii_fail(err, AIINFRA_ECANCELED, "the collection is gone");
  if (rc == AIINFRA_OK && row) {
    id->gen = aii_stmt_get_int(stmt, 0);
    id->nonce = (uint64_t)aii_stmt_get_int(stmt, 1);
    rc = aii_stmt_step(stmt, &row, err); /* to its end, or the update is undone */
  }
  aii_stmt_reset(stmt);
  return rc == AIINFRA_OK ? read_uuid(store, id, err) : rc;
}

/* *named: the row names this snapshot now; else it names a newer one. */
static aiinfra_status name_it(const aiinfra_vecstore *store, const aii_snapshot_id *id, const aii_snapshot_size *size,
                              bool *named, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(store->db->sql,
                                      "UPDATE snapshots SET gen = ?2, nonce = ?3, max_seq = ?4, n_graph = ?5,"
                                      " bytes = ?6 WHERE collection = ?1 AND gen < ?2 AND max_seq <= ?4",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id->collection);
  aii_stmt_int(stmt, 2, id->gen);
  aii_stmt_int(stmt, 3, (int64_t)id->nonce);
  aii_stmt_int(stmt, 4, id->max_seq);
  aii_stmt_int(stmt, 5, size->n_graph);
  aii_stmt_int(stmt, 6, (int64_t)size->bytes);
  rc = aii_stmt_run(stmt, err);
  *named = rc == AIINFRA_OK && aii_sql_changes(store->db->sql) > 0;
  return rc;
}

/* In a transaction of its own: the generation, or, with a size, the name. */
static aiinfra_status change_row(const aiinfra_vecstore *store, aii_snapshot_id *id, const aii_snapshot_size *size,
                                 bool *named, aiinfra_error *err)
{
  aii_sql *sql = store->db->sql;
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    rc = size == NULL ? take_gen(store, id, err) : name_it(store, id, size, named, err);
    if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
    else aii_sql_rollback(sql);
  }
  aii_sql_unlock(sql);
  return rc;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

/* Another handle or process has kept as much already. */
static bool is_kept(const aiinfra_vecstore *store, int64_t seq, uint32_t n_graph)
{
  aii_snapshot_id id;
  int64_t kept = 0;
  bool found = false;
  if (atomic_load(&store->keep.lost)) return false;
  aii_sql_lock(store->db->sql);
  aiinfra_status rc = read_row(store, &id, &kept, &found, NULL);
  aii_sql_unlock(store->db->sql);
  return rc == AIINFRA_OK && found && id.max_seq >= seq && kept >= (int64_t)n_graph;
}

static aiinfra_status write_next(aiinfra_vecstore *store, aii_buf *path, aii_snapshot_size *size, aiinfra_error *err)
{
  aii_snapshot_id id = {.collection = store->collection};
  bool named = false;
  aiinfra_status rc = change_row(store, &id, NULL, NULL, err);
  if (rc == AIINFRA_OK && !add_path(store, &id, path)) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a path");
  if (rc == AIINFRA_OK) rc = aii_snapshot_write(&store->index, &id, path->data, size, err);
  if (rc != AIINFRA_OK) return rc;
  rc = change_row(store, &id, size, &named, err);
  if (named) sweep(store->db, id.collection, id.gen);
  else (void)unlink(path->data);
  return rc;
}

/* What fails is told to the log: a snapshot is only there to save time. */
static void write_snapshot(aiinfra_vecstore *store)
{
  aii_index *index = &store->index;
  aii_buf path;
  aii_snapshot_size size;
  aiinfra_error err;
  (void)pthread_rwlock_rdlock(&index->lock);
  int64_t seq = index->seq;
  uint32_t n_graph = index->n_graph;
  (void)pthread_rwlock_unlock(&index->lock);
  atomic_store(&store->keep.n_kept, n_graph); /* whatever comes of it: a full disk is not tried at every search */
  if (is_kept(store, seq, n_graph)) return;
  aii_buf_init(&path, index->mem, 0);
  aiinfra_status rc = write_next(store, &path, &size, &err);
  if (rc == AIINFRA_OK) atomic_store(&store->keep.lost, false);
  if (rc != AIINFRA_OK && rc != AIINFRA_ECANCELED) {
    aii_logf(&store->db->rt->log, AIINFRA_LOG_WARN, "collection '%s': the graph could not be kept: %s", store->name,
             err.message);
  }
  aii_buf_free(&path);
}

/* Whether so much of the graph is new that it is worth a file. */
static bool is_due(aiinfra_vecstore *store, uint32_t part)
{
  aii_index *index = &store->index;
  uint32_t least = store->keep.mode > 0 ? 1 : LEAST_SLOTS, kept = atomic_load(&store->keep.n_kept);
  if (store->keep.mode < 0 || store->keep.read_only) return false;
  (void)pthread_rwlock_rdlock(&index->lock);
  uint32_t n = index->n, n_graph = index->n_graph;
  (void)pthread_rwlock_unlock(&index->lock);
  if (n_graph < least || n_graph < n / 2) return false;
  return n_graph < kept || kept == 0 || n_graph - kept > kept / part;
}

/* ---- the thread -------------------------------------------------------------------------------------------------- */

static void make_graph(aiinfra_vecstore *store)
{
  aii_index *index = &store->index;
  const struct timespec pause = {0, PAUSE_MS * 1000000};
  bool more = true;
  while (more && !atomic_load(&store->keep.stop)) {
    (void)pthread_rwlock_rdlock(&index->lock);
    uint32_t before = index->n_graph;
    more = before < index->n;
    (void)pthread_rwlock_unlock(&index->lock);
    if (!more || !aii_hnsw_build(index, BUILD_SLOTS)) return; /* no memory: searches go on without a graph */
    (void)pthread_rwlock_rdlock(&index->lock);
    bool idle = index->n_graph == before; /* somebody else is at it */
    (void)pthread_rwlock_unlock(&index->lock);
    if (idle) (void)nanosleep(&pause, NULL);
  }
}

static void *run(void *arg)
{
  aiinfra_vecstore *store = arg;
  aii_thread_prefer_others();
  if (atomic_exchange(&store->keep.rebuild, false)) make_graph(store);
  if (!atomic_load(&store->keep.stop) && is_due(store, GROWN_PART)) write_snapshot(store);
  atomic_store(&store->keep.running, false);
  return NULL;
}

/* Without a thread (no memory) the next occasion tries again. The host's signals are for the host's threads. */
static void start(aiinfra_vecstore *store)
{
  aii_keep *keep = &store->keep;
  sigset_t all, old;
  (void)sigfillset(&all);
  (void)pthread_mutex_lock(&keep->lock);
  if (!atomic_load(&keep->running)) {
    if (keep->joinable) (void)pthread_join(keep->thread, NULL);
    atomic_store(&keep->running, true);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    keep->joinable = pthread_create(&keep->thread, NULL, run, store) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!keep->joinable) atomic_store(&keep->running, false);
  }
  (void)pthread_mutex_unlock(&keep->lock);
}

void aii_keep_grown(aiinfra_vecstore *store)
{
  if (atomic_load(&store->keep.running)) return;
  if (atomic_load(&store->keep.rebuild) || is_due(store, GROWN_PART)) start(store);
}

void aii_keep_close(aiinfra_vecstore *store)
{
  atomic_store(&store->keep.stop, true);
  if (store->keep.joinable) (void)pthread_join(store->keep.thread, NULL);
  store->keep.joinable = false;
  if (is_due(store, CLOSE_PART)) write_snapshot(store);
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

/* Floats of live slots, where the index keeps them in memory. A row that was written later and has the same codes has the
 * same vector as far as an index can tell; another one gets a slot of its own. */
static aiinfra_status fill_slot(aiinfra_vecstore *store, aii_stmt *stmt, int64_t max_seq, uint8_t *codes, float *own,
                                aiinfra_error *err)
{
  aii_index *index = &store->index;
  aii_code code;
  size_t n;
  uint32_t slot = aii_idmap_get(&index->map, aii_stmt_get_int(stmt, 0));
  const void *vector = aii_stmt_get_blob(stmt, 1, &n);
  if (!aii_element_take(index, vector, n, own)) return aii_fail(err, AIINFRA_EFORMAT, "a vector is damaged");
  if (slot == AII_NO_SLOT || aii_is_dead(index, slot)) return AIINFRA_OK;
  aii_code_make(index, own, codes, &code);
  if (!aii_code_is(index, slot, &code)) {
    if (aii_stmt_get_int(stmt, 2) > max_seq) return AIINFRA_OK;
    return aii_fail(err, AIINFRA_EFORMAT, "it belongs to other vectors");
  }
  memcpy(aii_block_of(index, slot)->vectors + (size_t)(slot % AII_BLOCK_SLOTS) * index->dims, own,
         index->dims * sizeof *own);
  return AIINFRA_OK;
}

static aiinfra_status fill_floats(aiinfra_vecstore *store, int64_t max_seq, aiinfra_error *err)
{
  aii_index *index = &store->index;
  aii_stmt *stmt = NULL;
  uint8_t *codes = aii_new_aligned(index->mem, index->code_bytes + index->fine_bytes);
  float *own = aii_new_aligned(index->mem, index->dims * sizeof *own);
  bool row = true;
  aiinfra_status rc = AIINFRA_OK;
  if (codes == NULL || own == NULL) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a vector");
  if (rc == AIINFRA_OK) {
    rc = aii_sql_prepare(store->db->sql,
                         "SELECT r.id, v.vector, r.seq FROM rows r JOIN vectors v ON v.row = r.row "
                         "WHERE r.collection = ?1",
                         &stmt, err);
  }
  if (rc == AIINFRA_OK) aii_stmt_int(stmt, 1, store->collection);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc == AIINFRA_OK && row) rc = fill_slot(store, stmt, max_seq, codes, own, err);
  }
  if (stmt != NULL) aii_stmt_reset(stmt);
  aii_del_aligned(index->mem, codes, index->code_bytes + index->fine_bytes);
  aii_del_aligned(index->mem, own, index->dims * sizeof *own);
  return rc;
}

static aiinfra_status load_file(aiinfra_vecstore *store, const aii_snapshot_id *id, int fd, aiinfra_error *err)
{
  aii_index *index = &store->index;
  aiinfra_status rc = aii_snapshot_read(index, id, fd, err);
  if (rc == AIINFRA_OK && index->n_dead > index->n / 2) rc = aii_fail(err, AIINFRA_EFORMAT, "most of it is dead");
  if (rc == AIINFRA_OK && index->floats) rc = fill_floats(store, id->max_seq, err);
  if (rc != AIINFRA_OK) aii_index_clear(index);
  return rc;
}

/* *found: the database names a snapshot. */
static aiinfra_status load(aiinfra_vecstore *store, int64_t seq, bool *found, aiinfra_error *err)
{
  aii_snapshot_id id;
  aii_buf path;
  aiinfra_status rc = AIINFRA_OK;
  int fd = -1;
  aii_buf_init(&path, store->index.mem, 0);
  for (int i = 0; rc == AIINFRA_OK && fd < 0 && i < TRIES; i++) {
    rc = read_row(store, &id, NULL, found, err);
    if (rc != AIINFRA_OK || !*found) break;
    if (id.max_seq > seq) rc = aii_fail(err, AIINFRA_EFORMAT, "it is ahead of the database");
    aii_buf_clear(&path);
    if (rc == AIINFRA_OK && !add_path(store, &id, &path)) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a path");
    if (rc == AIINFRA_OK) fd = open(path.data, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  }
  if (rc == AIINFRA_OK && *found) rc = fd < 0 ? aii_fail_errno(err, ENOENT, "open") : load_file(store, &id, fd, err);
  if (rc != AIINFRA_OK && path.data != NULL) rc = aii_wrap(err, rc, "%s", path.data);
  if (fd >= 0) (void)close(fd);
  aii_buf_free(&path);
  return rc;
}

void aii_keep_load(aiinfra_vecstore *store, int64_t seq)
{
  aiinfra_error err;
  bool found = false;
  if (store->keep.mode < 0 || store->keep.looked || store->index.n > 0) return;
  store->keep.looked = true;
  aiinfra_status rc = load(store, seq, &found, &err);
  if (rc == AIINFRA_OK) {
    atomic_store(&store->keep.n_kept, store->index.n_graph);
    return;
  }
  atomic_store(&store->keep.lost, found);
  atomic_store(&store->keep.rebuild, found);
  aii_logf(&store->db->rt->log, rc == AIINFRA_ENOENT ? AIINFRA_LOG_INFO : AIINFRA_LOG_WARN,
           "collection '%s': the graph is made anew, its file cannot be used: %s", store->name, err.message);
}
