/* column.c - the values of one field over the rows that pass: what facets count and groups are made of.
 *
 * Values are numbered by their JSON text in a dictionary; a row that has a value several times has it once. Payloads
 * come from memory, or from the rows where memory is not enough. Only memory and the database can fail. Thread: any, in a
 * view of the rows.
 */
#include "src/vector/doc.h"

typedef struct builder {
  aii_index *index;
  const aii_filter *field;
  const aii_mask *mask;
  aii_column *column;
  aii_keys keys; /* of the field alone, where rows are read */
  aii_buf doc, text;
  uint32_t slot;
} builder;

static bool add_value(void *ctx, const aii_cell *doc, const aii_cell *cell)
{
  builder *b = ctx;
  aii_column *column = b->column;
  uint32_t value;
  if (cell->type == AII_CELL_NULL || cell->type == AII_CELL_OBJECT) return true;
  aii_buf_clear(&b->text);
  aii_cell_dump(doc, cell, &b->text);
  size_t before = column->values.n;
  if (b->text.failed || !aii_keys_add(&column->values, b->text.data, b->text.len, &value)) return false;
  if (column->values.n > before) {
    if (!aii_grow(b->index->mem, &column->last, &column->last_cap, column->values.n, sizeof *column->last))
      return false;
    column->last[value] = AII_NO_SLOT;
  }
  if (column->last[value] == b->slot) return true;
  if (!aii_grow(b->index->mem, &column->cells, &column->cap, column->n + 1, sizeof *column->cells)) return false;
  column->last[value] = b->slot;
  column->cells[column->n++] = (aii_column_cell){b->slot, value};
  return true;
}

static aiinfra_status add_row(builder *b, uint32_t slot, const aii_cell *doc, aiinfra_error *err)
{
  b->slot = slot;
  if (aii_filter_values(b->field, doc, add_value, b)) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for the values of a field");
}

static bool is_wanted(const builder *b, uint32_t slot)
{
  return slot < b->index->n && !aii_is_dead(b->index, slot) && (b->mask->bits == NULL || aii_bit(b->mask->bits, slot));
}

static aiinfra_status read_row(void *ctx, int64_t id, const json_t *payload, aiinfra_error *err)
{
  builder *b = ctx;
  uint32_t slot = aii_idmap_get(&b->index->map, id);
  if (!is_wanted(b, slot)) return AIINFRA_OK;
  aii_buf_clear(&b->doc);
  if (!aii_doc_pack(&b->keys, false, payload, &b->doc)) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a payload");
  return add_row(b, slot, (const aii_cell *)(void *)b->doc.data, err);
}

static aiinfra_status build(aiinfra_vecstore *store, aii_sql *sql, builder *b, aii_filter *field, aiinfra_error *err)
{
  aii_index *index = b->index;
  aiinfra_status rc = AIINFRA_OK;
  if (index->docs.state != AII_DOCS_ON) {
    if (!aii_filter_bind(field, &b->keys, true)) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a field");
    return aii_rows_each(store, sql, read_row, b, err);
  }
  aii_docs_bind(index, field);
  for (uint32_t slot = 0; rc == AIINFRA_OK && slot < index->n; slot++) {
    if (is_wanted(b, slot)) rc = add_row(b, slot, aii_docs_get(&index->docs, slot), err);
  }
  return rc;
}

aiinfra_status aii_column_make(aiinfra_vecstore *store, aii_sql *sql, const char *key, const aii_mask *mask,
                               aii_column *column, aiinfra_error *err)
{
  aii_mem *mem = store->index.mem;
  aii_filter *field;
  builder b = {.index = &store->index, .mask = mask, .column = column};
  memset(column, 0, sizeof *column);
  aii_keys_init(&column->values, mem);
  aiinfra_status rc = aii_filter_of_key(mem, key, strlen(key), &field, err);
  if (rc != AIINFRA_OK) return rc;
  b.field = field;
  aii_keys_init(&b.keys, mem);
  aii_buf_init(&b.doc, mem, 0);
  aii_buf_init(&b.text, mem, 0);
  rc = build(store, sql, &b, field, err);
  aii_buf_free(&b.doc);
  aii_buf_free(&b.text);
  aii_keys_free(&b.keys);
  aii_filter_free(field);
  if (rc != AIINFRA_OK) aii_column_free(column);
  return rc;
}

void aii_column_free(aii_column *column)
{
  aii_mem *mem = column->values.mem;
  if (mem == NULL) return;
  aii_keys_free(&column->values);
  aii_del(mem, column->cells, column->cap * sizeof *column->cells);
  aii_del(mem, column->last, column->last_cap * sizeof *column->last);
  memset(column, 0, sizeof *column);
}
