/* types.c - vectors in pgvector's types, in columns beside the bytes that are the truth.
 *
 *   collection     the collection's number, once the columns below hold what the bytes hold; NULL: not yet
 *   as_vector ..   the vector in the type that suits the collection's elements, see value.c; NULL: it has none there
 *
 * Who writes a row writes these columns in the same statement. Whether there are any is asked in each transaction, behind
 * the lock, so that a node sees at once what another one made. A trigger takes `collection` from rows whose bytes a program
 * changes that does not know of this (an older library, a person), and the next opening fills them again: a row is missing
 * from searches in SQL or right, never wrong. When the extension is dropped, its columns and the views go with it, and
 * nodes write bytes alone.
 *
 * Opening makes the columns if the extension is there, and fills rows that have no `collection`, some at a time, each time
 * in a transaction with the lock: what was interrupted goes on at the next opening. What others keep locked for too long
 * is left to that, too. One thread at a time.
 */
#include <stdio.h>

#include "src/db/postgres/postgres.h"

enum { AT_A_TIME = 256, MAX_QUOTED = 192, OLD_COLUMNS = 3, N_VIEWS = 2 };

static const struct {
  const char *name;
  unsigned type;
} COLUMNS[AII_PG_TYPES] = {{"collection", AII_PG_TYPE_COLLECTION},
                           {"as_vector", AII_PG_TYPE_VECTOR},
                           {"as_halfvec", AII_PG_TYPE_HALFVEC},
                           {"as_bit", AII_PG_TYPE_BIT},
                           {"as_sparsevec", AII_PG_TYPE_SPARSEVEC}};

/* ---- in a write transaction -------------------------------------------------------------------------------------- */

aiinfra_status aii_pg_see_type(void *ctx, const PGresult *result, int row, aiinfra_error *err)
{
  aii_truth *t = ctx;
  aii_sql_value name, type;
  aii_pg_read(result, row, 0, AII_SQL_TEXT, &name);
  aii_pg_read(result, row, 1, AII_SQL_INT, &type);
  (void)err;
  for (size_t i = 0; i < AII_PG_TYPES; i++) {
    if (strcmp(name.p, COLUMNS[i].name) != 0) continue;
    t->types |= COLUMNS[i].type;
    if (COLUMNS[i].type == AII_PG_TYPE_VECTOR) t->vector_type = (uint64_t)type.i;
  }
  return AIINFRA_OK;
}

bool aii_pg_is_typed(const aii_truth *t)
{
  return (t->types & AII_PG_TYPE_COLLECTION) != 0 && (t->types & AII_PG_TYPE_VECTOR) != 0;
}

aiinfra_status aii_pg_typed_of(aii_truth *t, const aii_truth_vector *as, aii_pg_typed *typed, aiinfra_error *err)
{
  bool known = as != NULL && aii_pg_is_typed(t);
  aii_buf_clear(&t->value);
  unsigned type = known ? aii_pg_value(as, &t->value) : 0;
  if (t->value.failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a vector");
  typed->n = 0;
  for (size_t i = 0; i < AII_PG_TYPES; i++) {
    if ((t->types & COLUMNS[i].type) == 0) continue;
    aii_sql_value *value = &typed->values[typed->n];
    typed->names[typed->n++] = COLUMNS[i].name;
    *value = (aii_sql_value){.type = AII_SQL_NULL};
    if (known && COLUMNS[i].type == AII_PG_TYPE_COLLECTION)
      *value = (aii_sql_value){.type = AII_SQL_INT, .i = as->collection};
    else if (COLUMNS[i].type == type)
      *value = (aii_sql_value){.type = AII_SQL_BLOB, .p = t->value.data, .n = t->value.len};
  }
  return AIINFRA_OK;
}

/* ---- the columns ------------------------------------------------------------------------------------------------- */

/* No row: there is no extension, or this user may not make the columns. */
#define LOOK                                                                                                       \
  "SELECT quote_ident(n.nspname)::text, quote_literal(quote_ident(n.nspname))::text,"                              \
  " (to_regtype(quote_ident(n.nspname) || '.sparsevec') IS NOT NULL)::int::bigint,"                                \
  " (SELECT count(*) FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped AND attname IN ('collection',"  \
  " 'as_vector', 'as_halfvec', 'as_bit', 'as_sparsevec')) + (SELECT count(*) FROM pg_class v WHERE v.relnamespace" \
  " = c.relnamespace AND v.relkind = 'v' AND v.relname IN ('embeddings', 'searchable'))"                           \
  " FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace JOIN pg_class c ON c.oid ="                  \
  " 'vectors'::regclass WHERE e.extname = 'vector' AND pg_has_role(c.relowner, 'USAGE')"                           \
  " AND has_schema_privilege(c.relnamespace, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE')"

/* The extension, as this server has it. */
typedef struct extension {
  char schema[MAX_QUOTED], literal[MAX_QUOTED]; /* where it lies: as a name, as a string with that name */
  bool there, newer;                            /* newer: 0.7 or later, with all types */
  int64_t made;                                 /* columns and views that are there */
} extension;

static aiinfra_status see_extension(void *ctx, const PGresult *result, int row, aiinfra_error *err)
{
  extension *e = ctx;
  aii_sql_value schema, literal, newer, made;
  aii_pg_read(result, row, 0, AII_SQL_TEXT, &schema);
  aii_pg_read(result, row, 1, AII_SQL_TEXT, &literal);
  aii_pg_read(result, row, 2, AII_SQL_INT, &newer);
  aii_pg_read(result, row, 3, AII_SQL_INT, &made);
  if (schema.n >= MAX_QUOTED || literal.n >= MAX_QUOTED)
    return aii_fail(err, AIINFRA_ELIMIT, "the name of pgvector's schema is too long");
  memcpy(e->schema, schema.p, schema.n + 1);
  memcpy(e->literal, literal.p, literal.n + 1);
  e->there = true;
  e->newer = newer.i != 0;
  e->made = made.i;
  return AIINFRA_OK;
}

/* The order of columns lets later versions of the extension add theirs at the end. */
static void add_embeddings(aii_buf *sql, const extension *e)
{
  aii_buf_str(sql, "CREATE OR REPLACE VIEW embeddings AS SELECT v.collection AS collection_id, c.name AS collection,"
                   " c.label, c.tenant, r.id, r.text, r.payload, v.as_vector, v.as_bit");
  if (e->newer) aii_buf_str(sql, ", v.as_halfvec, v.as_sparsevec");
  aii_buf_str(sql, " FROM vectors v JOIN rows r ON r.row = v.row AND r.collection = v.collection"
                   " JOIN collections c ON c.id = v.collection WHERE r.expires_ms IS NULL"
                   " OR r.expires_ms > extract(epoch FROM now()) * 1000;");
}

/* Names of collections are values here, never part of a statement. An index is offered where no row that we may write can
 * be one that it refuses. */
static void add_searchable(aii_buf *sql, const extension *e)
{
  aii_buf_str(sql,
              "CREATE OR REPLACE VIEW searchable AS SELECT c.id AS collection_id, c.name AS collection, c.label,"
              " c.tenant, x.expression, x.operator, CASE WHEN x.ops IS NOT NULL THEN format('CREATE INDEX CONCURRENTLY"
              " IF NOT EXISTS %I ON %s USING hnsw ((%s) %s.%s) WHERE collection = %s', 'vectors_' || c.id,"
              " 'vectors'::regclass, x.expression, e.name, x.ops, c.id) END AS create_index FROM collections c"
              " CROSS JOIN (SELECT ");
  aii_buf_fmt(sql, "%s::text AS name WHERE NULL::%s.vector IS NULL) e", e->literal, e->schema);
  aii_buf_str(
      sql, " CROSS JOIN LATERAL (SELECT CASE c.metric WHEN 2 THEN '<#>' WHEN 3 THEN '<->' ELSE '<=>' END AS operator,"
           " CASE c.metric WHEN 2 THEN 'ip_ops' WHEN 3 THEN 'l2_ops' ELSE 'cosine_ops' END AS ops) m"
           " CROSS JOIN LATERAL (SELECT format('as_vector::%s.vector(%s)', e.name, c.dims) AS expression, m.operator,"
           " CASE WHEN c.dims <= 2000 THEN 'vector_' || m.ops END AS ops"
           " WHERE c.kind = 0 AND c.element IN (1, 3) AND c.dims <= 16000");
  if (e->newer)
    aii_buf_str(sql, " UNION ALL SELECT format('as_halfvec::%s.halfvec(%s)', e.name, c.dims), m.operator,"
                     " CASE WHEN c.dims <= 4000 THEN 'halfvec_' || m.ops END"
                     " WHERE c.kind = 0 AND c.element = 2 AND c.dims <= 16000"
                     " UNION ALL SELECT format('as_bit::bit(%s)', c.dims), '<~>',"
                     " CASE WHEN c.dims <= 64000 THEN 'bit_hamming_ops' END WHERE c.kind = 0 AND c.element = 4"
                     " UNION ALL SELECT 'as_sparsevec', '<#>', NULL WHERE c.kind = 2");
  aii_buf_str(sql, ") x;");
}

static void add_all(aii_buf *sql, const extension *e)
{
  /* Whoever waits for the table to be free keeps others from it: not for long. */
  aii_buf_str(sql, "BEGIN; SET LOCAL lock_timeout = 1000; SELECT pg_advisory_xact_lock(1633773873);"
                   " SELECT version FROM replica_state FOR UPDATE;"
                   " ALTER TABLE vectors ADD COLUMN IF NOT EXISTS collection bigint,"
                   " ADD COLUMN IF NOT EXISTS as_bit bit varying");
  aii_buf_fmt(sql, ", ADD COLUMN IF NOT EXISTS as_vector %s.vector", e->schema);
  if (e->newer)
    aii_buf_fmt(sql,
                ", ADD COLUMN IF NOT EXISTS as_halfvec %s.halfvec, ADD COLUMN IF NOT EXISTS as_sparsevec %s.sparsevec",
                e->schema, e->schema);
  aii_buf_str(sql,
              "; UPDATE vectors SET collection = NULL WHERE collection IS NOT NULL AND as_vector IS NULL;"
              " CREATE INDEX IF NOT EXISTS vectors_by_collection ON vectors(collection, row);"
              " CREATE OR REPLACE FUNCTION vectors_changed() RETURNS trigger LANGUAGE plpgsql AS"
              " 'BEGIN NEW.collection := NULL; RETURN NEW; END';"
              " DROP TRIGGER IF EXISTS vectors_changed ON vectors;"
              " CREATE TRIGGER vectors_changed BEFORE UPDATE OF vector ON vectors FOR EACH ROW WHEN"
              " (current_setting('aiinfra.typed', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION vectors_changed();");
  add_embeddings(sql, e);
  add_searchable(sql, e);
  aii_buf_str(sql, "COMMIT");
}

static aiinfra_status make(aii_truth *t, const extension *e, aiinfra_error *err)
{
  aiinfra_error ignored;
  aii_buf_clear(&t->sql);
  add_all(&t->sql, e);
  if (t->sql.failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a statement");
  aiinfra_status rc = aii_pg_exec(t, t->sql.data, err);
  if (rc != AIINFRA_OK && t->conn != NULL) (void)aii_pg_exec(t, "ROLLBACK", &ignored);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "make pgvector's columns");
}

/* ---- filling ----------------------------------------------------------------------------------------------------- */

#define UNFILLED                                                                                 \
  " FROM vectors v JOIN rows r ON r.row = v.row JOIN collections c ON c.id = r.collection WHERE" \
  " v.collection IS NULL"

/* A row as it was read; its bytes follow. */
typedef struct item {
  int64_t row;
  aii_truth_vector as;
} item;

static aiinfra_status see_any(void *ctx, const PGresult *result, int row, aiinfra_error *err)
{
  (void)result, (void)row, (void)err;
  *(bool *)ctx = true;
  return AIINFRA_OK;
}

/* vector, dims, element and kind from a column on. */
static void read_vector(const PGresult *result, int row, int at, aii_truth_vector *as)
{
  aii_sql_value vector, dims, element, kind;
  aii_pg_read(result, row, at, AII_SQL_BLOB, &vector);
  aii_pg_read(result, row, at + 1, AII_SQL_INT, &dims);
  aii_pg_read(result, row, at + 2, AII_SQL_INT, &element);
  aii_pg_read(result, row, at + 3, AII_SQL_INT, &kind);
  as->stored = vector.p;
  as->n = vector.n;
  as->dims = dims.i;
  as->element = element.i;
  as->kind = kind.i;
}

static aiinfra_status see_unfilled(void *ctx, const PGresult *result, int row, aiinfra_error *err)
{
  aii_buf *items = ctx;
  item one = {0};
  aii_sql_value number, collection;
  aii_pg_read(result, row, 0, AII_SQL_INT, &number);
  aii_pg_read(result, row, 1, AII_SQL_INT, &collection);
  read_vector(result, row, 2, &one.as);
  one.row = number.i;
  one.as.collection = collection.i;
  aii_buf_add(items, &one, sizeof one);
  aii_buf_add(items, one.as.stored, one.as.n);
  return items->failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for vectors") : AIINFRA_OK;
}

static aiinfra_status write_items(aii_truth *t, const aii_buf *items, aiinfra_error *err)
{
  static aii_truth_column columns[] = {{.name = (char *)(uintptr_t) "row", .type = AII_SQL_INT}};
  static const aii_truth_table table = {.name = (char *)(uintptr_t) "vectors", .columns = columns, .n = 1};
  static const unsigned char is_key[] = {1};
  aiinfra_status rc = AIINFRA_OK;
  item one;
  for (size_t at = 0; rc == AIINFRA_OK && at < items->len; at += sizeof one + one.as.n) {
    memcpy(&one, items->data + at, sizeof one);
    one.as.stored = items->data + at + sizeof one;
    aii_sql_value row = {.type = AII_SQL_INT, .i = one.row};
    aii_sql_change change = {"vectors", 'u', 1, is_key, &row};
    rc = aii_pg_write(t, &table, &change, &one.as, err);
  }
  return rc;
}

static aiinfra_status see_types(aii_truth *t, aiinfra_error *err)
{
  t->types = 0;
  t->vector_type = 0;
  return aii_pg_query(t, AII_PG_TYPES_THERE, NULL, aii_pg_see_type, t, err);
}

/* Some rows more, in a transaction of their own. *more: there were any. */
static aiinfra_status fill_some(aii_truth *t, bool *more, aiinfra_error *err)
{
  char select[512];
  bool asked;
  aii_buf items;
  aii_buf_init(&items, t->mem, 0);
  (void)snprintf(select, sizeof select,
                 "SELECT v.row, c.id, v.vector, c.dims, c.element, c.kind" UNFILLED " ORDER BY v.row LIMIT %d",
                 AT_A_TIME);
  t->n_sent = 0;
  aiinfra_status rc = aii_pg_exec(t, "BEGIN; SELECT version FROM replica_state FOR UPDATE", err);
  t->in_transaction = t->conn != NULL;
  if (rc == AIINFRA_OK) rc = see_types(t, err);
  if (rc == AIINFRA_OK && aii_pg_is_typed(t)) rc = aii_pg_query(t, select, NULL, see_unfilled, &items, err);
  *more = rc == AIINFRA_OK && items.len > 0;
  if (*more) rc = write_items(t, &items, err);
  if (*more && rc == AIINFRA_OK) rc = aii_pg_end(t, t->n_sent, &asked, err);
  else aii_pg_rollback(t);
  aii_buf_free(&items);
  return rc;
}

static aiinfra_status fill(aii_truth *t, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (bool more = true; rc == AIINFRA_OK && more;) {
    more = false; /* most of the time; looked up without a lock */
    rc = aii_pg_query(t, "SELECT v.row" UNFILLED " LIMIT 1", NULL, see_any, &more, err);
    if (rc == AIINFRA_OK && more) rc = fill_some(t, &more, err);
  }
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "fill pgvector's columns");
}

aiinfra_status aii_pg_types(aii_truth *t, aiinfra_error *err)
{
  extension e = {.there = false};
  aiinfra_status rc = aii_pg_query(t, LOOK, NULL, see_extension, &e, err);
  if (rc != AIINFRA_OK || !e.there) return rc;
  int64_t wanted = (e.newer ? AII_PG_TYPES : OLD_COLUMNS) + N_VIEWS;
  if (e.made < wanted) rc = make(t, &e, err);
  if (rc == AIINFRA_OK) rc = fill(t, err);
  return rc == AIINFRA_EBUSY && t->conn != NULL ? AIINFRA_OK : rc;
}

/* ---- checking ---------------------------------------------------------------------------------------------------- */

typedef struct checker {
  aii_truth *t;
  int64_t n_wrong;
} checker;

static aiinfra_status see_checked(void *ctx, const PGresult *result, int row, aiinfra_error *err)
{
  checker *c = ctx;
  aii_truth_vector as = {0};
  aii_pg_typed typed;
  aii_sql_value found, collection;
  bool same = true;
  read_vector(result, row, 0, &as);
  aii_pg_read(result, row, 4, AII_SQL_INT, &collection);
  as.collection = collection.i;
  aiinfra_status rc = aii_pg_typed_of(c->t, &as, &typed, err);
  for (int i = 0; rc == AIINFRA_OK && i < typed.n; i++) {
    aii_sql_value *value = &typed.values[i];
    aii_pg_read(result, row, 5 + i, value->type == AII_SQL_INT ? AII_SQL_INT : AII_SQL_BLOB, &found);
    same = same && found.type == value->type && found.i == value->i &&
           found.n == (value->type == AII_SQL_INT ? 8 : value->n);
    if (same && value->type == AII_SQL_BLOB) same = memcmp(found.p, value->p, value->n) == 0;
  }
  c->n_wrong += !same;
  return rc;
}

aiinfra_status aii_pg_check_types(aii_truth *t, aiinfra_error *err)
{
  checker c = {.t = t};
  aiinfra_status rc = see_types(t, err);
  if (rc != AIINFRA_OK || !aii_pg_is_typed(t)) return rc;
  aii_buf_clear(&t->sql);
  aii_buf_str(&t->sql, "SELECT v.vector, c.dims, c.element, c.kind, r.collection");
  for (size_t i = 0; i < AII_PG_TYPES; i++) {
    if ((t->types & COLUMNS[i].type) != 0) aii_buf_fmt(&t->sql, ", v.%s", COLUMNS[i].name);
  }
  aii_buf_str(&t->sql,
              " FROM vectors v LEFT JOIN rows r ON r.row = v.row LEFT JOIN collections c ON c.id = r.collection"
              " WHERE v.collection IS NOT NULL");
  if (t->sql.failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a statement");
  rc = aii_pg_query(t, t->sql.data, NULL, see_checked, &c, err);
  if (rc != AIINFRA_OK || c.n_wrong == 0) return rc;
  return aii_fail(err, AIINFRA_EFORMAT,
                  "table vectors: in %lld rows pgvector's columns are not what the bytes are: run UPDATE vectors SET "
                  "collection = NULL in PostgreSQL, and open the database again to fill them",
                  (long long)c.n_wrong);
}
