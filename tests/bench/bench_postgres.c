/* bench_postgres.c - a database in PostgreSQL beside the same calls on a file, on one machine, over a Unix socket.
 *
 * The server does not wait for the disk (fsync=off) and neither does the file (synchronous off): what is compared is
 * the work of the two ways, not two disks.
 */
#include "support/postgres_server.h"

#include <time.h>

#include "aiinfra/memory.h"
#include "aiinfra/vecstore.h"

enum { MESSAGES = 500, ROWS = 10000, DIMS = 384, BATCH = 500, READS = 20000 };

static aiinfra_runtime *rt;
static aiinfra_error err;

static void must(aiinfra_status rc)
{
  if (rc == AIINFRA_OK) return;
  fprintf(stderr, "%s\n", err.message);
  server_end();
  exit(1);
}

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static aiinfra_db *open_db(const char *where)
{
  aiinfra_db *db;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  opts.synchronous = -1;
  must(aiinfra_db_open(rt, where, &opts, &db, &err));
  return db;
}

static double append(aiinfra_db *db)
{
  aiinfra_memory *memory;
  must(aiinfra_memory_open(db, NULL, &memory, &err));
  double start = now();
  for (int i = 0; i < MESSAGES; i++)
    must(aiinfra_memory_append(memory, "talk", "{\"role\":\"user\",\"content\":\"Where is the printer?\"}", &err));
  double took = now() - start;
  aiinfra_memory_free(memory);
  return took / MESSAGES;
}

static aiinfra_vecstore *store_of(aiinfra_db *db)
{
  aiinfra_vecstore *store;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = DIMS;
  must(aiinfra_vecstore_open(db, "rows", &opts, &store, &err));
  return store;
}

static double upsert(aiinfra_vecstore *store)
{
  static float vectors[BATCH][DIMS];
  static aiinfra_record records[BATCH];
  unsigned long long seed = test_seed();
  double took = 0;
  for (int at = 0; at < ROWS; at += BATCH) {
    for (int i = 0; i < BATCH; i++) {
      for (int d = 0; d < DIMS; d++) vectors[i][d] = (float)(test_random(&seed) % 2000) - 1000;
      records[i] = (aiinfra_record){at + i + 1, vectors[i], "The printer is in room 4 beside the stairs.", NULL};
    }
    double start = now();
    must(aiinfra_vecstore_upsert(store, records, BATCH, &err));
    took += now() - start;
  }
  return took;
}

static double count(aiinfra_vecstore *store)
{
  uint64_t n;
  double start = now();
  for (int i = 0; i < READS; i++) must(aiinfra_vecstore_count(store, &n, &err));
  return (now() - start) / READS;
}

static void measure(const char *name, const char *where)
{
  aiinfra_db *db = open_db(where);
  double message = append(db);
  aiinfra_vecstore *store = store_of(db);
  double rows = upsert(store), reading = count(store);
  printf("%-22s a message in %7.3f ms, %6.0f rows a second of %d dimensions, a count in %6.2f us\n", name,
         1e3 * message, ROWS / rows, DIMS, 1e6 * reading);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* The same with vectors of pgvector's types beside, where the server has it, and with the index that it offers. */
static void measure_types(const char *uri)
{
  char more[4200], out[1024];
  if (server_do("psql", "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'", out, sizeof out) != 0 ||
      strcmp(out, "1") != 0 || server_do("psql", "CREATE EXTENSION vector", NULL, 0) != 0) {
    printf("not measured: pgvector, which this server has not; AIINFRA_POSTGRES_BIN names the folder of another\n");
    return;
  }
  snprintf(more, sizeof more, "%s&schema=c&replica=%s", uri, test_tmp("d.db"));
  measure("with pgvector", more);
  snprintf(more, sizeof more, "%s&schema=d&replica=%s", uri, test_tmp("e.db"));
  aiinfra_db *db = open_db(more);
  aiinfra_vecstore_free(store_of(db));
  aiinfra_db_free(db);
  if (server_do("psql", "SELECT create_index FROM d.searchable", out, sizeof out) == 0 &&
      server_do("psql", out, NULL, 0) == 0)
    measure("and its index", more);
  snprintf(more, sizeof more, "%s&schema=a&replica=%s", uri, test_tmp("a.db"));
  double start = now();
  aiinfra_db_free(open_db(more));
  printf("an older database's %d rows are filled in %.2f s\n", ROWS, now() - start);
}

int main(void)
{
  char uri[4096], more[4200];
  const char *why = server_begin();
  if (why != NULL) return test_skip_all("%s", why);
  must(aiinfra_runtime_create(NULL, &rt, &err));
  snprintf(uri, sizeof uri, "postgres://tester@/postgres?host=%s&plugin=%s", server_folder,
           test_built("libaiinfra-postgres.so"));
  measure("file", test_tmp("file.db"));
  snprintf(more, sizeof more, "%s&schema=a&replica=%s", uri, test_tmp("a.db"));
  measure("PostgreSQL", more);
  snprintf(more, sizeof more, "%s&schema=b&sync_ms=0&replica=%s", uri, test_tmp("b.db"));
  measure("PostgreSQL, sync_ms=0", more);
  snprintf(more, sizeof more, "%s&schema=a&replica=%s", uri, test_tmp("c.db"));
  double start = now();
  aiinfra_db *db = open_db(more);
  printf("a new node reads all of it in %.2f s\n", now() - start);
  aiinfra_db_free(db);
  measure_types(uri);
  aiinfra_runtime_free(rt);
  server_end();
  return 0;
}
