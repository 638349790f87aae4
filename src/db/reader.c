/* reader.c - connections for readers: each sees what is committed, while the database's own connection writes.
 *
 * The happy path: one that nobody uses is taken, or another one is opened -> a query -> it is given back. At most so many
 * as readers read at once are open. A database in memory and a replica have their one connection alone, and so has one that
 * cannot be opened once more (no memory, no files): readers take their turn there. Any thread, no lock held.
 */
#include "src/db/db.h"

aii_sql *aii_db_take_reader(aiinfra_db *db)
{
  aii_sql *sql = NULL;
  if (db->file == NULL) return NULL;
  (void)pthread_mutex_lock(&db->readers_lock);
  if (db->n_readers > 0) sql = db->readers[--db->n_readers];
  (void)pthread_mutex_unlock(&db->readers_lock);
  if (sql == NULL && aii_sql_open(&db->rt->mem, db->file, &db->opts, &sql, NULL) != AIINFRA_OK) return NULL;
  aii_sql_lock(sql);
  return sql;
}

void aii_db_give_reader(aiinfra_db *db, aii_sql *sql)
{
  aii_sql_unlock(sql);
  (void)pthread_mutex_lock(&db->readers_lock);
  bool keep = db->n_readers < AII_READERS;
  if (keep) db->readers[db->n_readers++] = sql;
  (void)pthread_mutex_unlock(&db->readers_lock);
  if (!keep) aii_sql_close(sql);
}

void aii_db_close_readers(aiinfra_db *db)
{
  while (db->n_readers > 0) aii_sql_close(db->readers[--db->n_readers]);
}

aii_sql *aii_db_read_lock(aiinfra_db *db)
{
  aii_sql *sql = aii_db_take_reader(db);
  if (sql != NULL) return sql;
  aii_sql_lock(db->sql);
  return db->sql;
}

void aii_db_read_unlock(aiinfra_db *db, aii_sql *sql)
{
  if (sql != db->sql) aii_db_give_reader(db, sql);
  else aii_sql_unlock(sql);
}
