/* snapshot.c - the index of a collection as one file: codes, links, ids; no floats, which are in the rows.
 *
 *   header | upper links, in pieces | blocks of 1024 slots | the sum of each piece and block, and of these sums
 *
 * Numbers are as the machine has them; the header says in which order. Every byte is covered by a sum: the header by its
 * own, pieces and blocks by theirs. Sums find damage, not malice; so each number is checked as well before it is used: a
 * file whose sums are right leads to wrong answers at worst, never out of bounds.
 *
 * Writing holds the index's lock for one block at a time. That the graph stays as it is meanwhile is seen to by `build`;
 * slots are only added behind those that are written. A slot that dies meanwhile may be dead in the file or not: its row
 * was removed or changed later than max_seq, so the reader learns of it from the rows.
 *
 * What can fail: memory, the disk, a file that is not what it should be.
 */
#include <errno.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/vector/graph.h"
#include "src/vector/snapshot.h"

enum { ORDER = 0x01020304, VERSION = 1, PIECE = 1 << 18 }; /* numbers in a piece of the upper links */

typedef struct header {
  char magic[8];
  uint32_t order, version;
  aii_snapshot_id id;
  uint32_t dims, metric, m, ef_construction, code_bytes;
  uint32_t n, n_graph, n_blurred, entry, top;
  uint64_t n_upper, file_bytes;
  uint64_t sum; /* of all before */
} header;
_Static_assert(sizeof(header) == 128, "there is no padding");

/* Where the parts of a block lie in its bytes. */
typedef struct layout {
  size_t codes, fine, links0, ids, scale, norm, error, sum, upper, level, dead, bytes;
} layout;

/* Where the sections of a file lie. */
typedef struct plan {
  layout block;
  uint64_t n_pieces, n_blocks, n_sections, file_bytes;
} plan;

/* ---- the form ---------------------------------------------------------------------------------------------------- */

static size_t part(size_t *end, size_t bytes_of_slot)
{
  size_t at = *end;
  *end += AII_BLOCK_SLOTS * bytes_of_slot;
  return at;
}

static layout layout_of(const aii_index *index)
{
  layout l;
  size_t end = 0;
  l.codes = part(&end, index->code_bytes);
  l.fine = part(&end, index->fine_bytes);
  l.links0 = part(&end, (size_t)2 * index->m * sizeof(uint32_t));
  l.ids = part(&end, sizeof(int64_t));
  l.scale = part(&end, sizeof(float));
  l.norm = part(&end, sizeof(float));
  l.error = part(&end, sizeof(float));
  l.sum = part(&end, sizeof(int32_t));
  l.upper = part(&end, sizeof(uint32_t));
  l.level = part(&end, sizeof(uint8_t));
  l.dead = part(&end, sizeof(bool));
  l.bytes = end;
  return l;
}

/* n and n_upper are 32-bit numbers and a block is less than a MiB a dimension: nothing overflows. */
static plan plan_of(const aii_index *index, uint32_t n, uint64_t n_upper)
{
  plan p = {.block = layout_of(index)};
  p.n_pieces = (n_upper + PIECE - 1) / PIECE;
  p.n_blocks = ((uint64_t)n + AII_BLOCK_SLOTS - 1) / AII_BLOCK_SLOTS;
  p.n_sections = p.n_pieces + p.n_blocks;
  p.file_bytes =
      sizeof(header) + n_upper * sizeof(uint32_t) + p.n_blocks * p.block.bytes + (p.n_sections + 1) * sizeof(uint64_t);
  return p;
}

static size_t section_bytes(const plan *p, uint64_t n_upper, uint64_t section)
{
  if (section >= p->n_pieces) return p->block.bytes;
  return (size_t)AII_MIN((uint64_t)PIECE, n_upper - section * PIECE) * sizeof(uint32_t);
}

static header header_of(const aii_index *index, const aii_snapshot_id *id)
{
  header h = {.magic = "AIIANN", .order = ORDER, .version = VERSION, .id = *id};
  h.dims = index->dims;
  h.metric = (uint32_t)index->metric;
  h.m = index->m;
  h.ef_construction = index->ef_construction;
  h.code_bytes = index->code_bytes;
  return h;
}

static uint64_t sum_of_header(const header *h)
{
  return aii_hash64(h, offsetof(header, sum), h->file_bytes);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

typedef struct writer {
  aii_index *index;
  header h;
  plan p;
  uint8_t *buffer; /* of one section */
  uint64_t *sums;  /* [n_sections + 1] */
  size_t buffer_bytes;
} writer;

static void copy_part(uint8_t *to, const void *from, size_t n, size_t bytes_of_slot)
{
  if (from != NULL) memcpy(to, from, n * bytes_of_slot);
  else memset(to, 0xFF, n * bytes_of_slot);
}

/* The rest of a last block stays zero. */
static void copy_block(const writer *w, const aii_block *b, size_t n)
{
  const layout *l = &w->p.block;
  uint8_t *to = w->buffer;
  memset(to, 0, l->bytes);
  copy_part(to + l->codes, b->codes, n, w->index->code_bytes);
  copy_part(to + l->fine, b->fine, n, w->index->fine_bytes);
  copy_part(to + l->links0, b->links0, n, (size_t)2 * w->index->m * sizeof(uint32_t));
  copy_part(to + l->ids, b->ids, n, sizeof *b->ids);
  copy_part(to + l->scale, b->scale, n, sizeof *b->scale);
  copy_part(to + l->norm, b->norm, n, sizeof *b->norm);
  copy_part(to + l->error, b->error, n, sizeof *b->error);
  copy_part(to + l->sum, b->sum, n, sizeof *b->sum);
  copy_part(to + l->upper, b->upper, n, sizeof *b->upper);
  copy_part(to + l->level, b->level, n, sizeof *b->level);
  copy_part(to + l->dead, b->dead, n, sizeof *b->dead);
}

/* One section into the buffer. */
static void copy_section(const writer *w, uint64_t section)
{
  aii_index *index = w->index;
  (void)pthread_rwlock_rdlock(&index->lock);
  if (section < w->p.n_pieces) {
    memcpy(w->buffer, index->upper + section * PIECE, section_bytes(&w->p, w->h.n_upper, section));
  } else {
    uint64_t block = section - w->p.n_pieces;
    copy_block(w, index->blocks[block], AII_MIN((size_t)AII_BLOCK_SLOTS, w->h.n - (size_t)block * AII_BLOCK_SLOTS));
  }
  (void)pthread_rwlock_unlock(&index->lock);
}

static aiinfra_status write_sections(writer *w, aii_aside *file, aiinfra_error *err)
{
  aiinfra_status rc = aii_aside_write(file, &w->h, sizeof w->h, err);
  for (uint64_t i = 0; rc == AIINFRA_OK && i < w->p.n_sections; i++) {
    size_t bytes = section_bytes(&w->p, w->h.n_upper, i);
    copy_section(w, i);
    w->sums[i] = aii_hash64(w->buffer, bytes, i);
    rc = aii_aside_write(file, w->buffer, bytes, err);
  }
  size_t n = (size_t)w->p.n_sections;
  w->sums[n] = aii_hash64(w->sums, n * sizeof *w->sums, w->h.id.nonce);
  return rc == AIINFRA_OK ? aii_aside_write(file, w->sums, (n + 1) * sizeof *w->sums, err) : rc;
}

/* What the index is now. */
static void fix(writer *w, aii_snapshot_id *id)
{
  aii_index *index = w->index;
  (void)pthread_rwlock_rdlock(&index->lock);
  id->max_seq = index->seq;
  w->h = header_of(index, id);
  w->h.n = index->n;
  w->h.n_graph = index->n_graph;
  w->h.n_blurred = index->n_blurred;
  w->h.entry = index->entry;
  w->h.top = index->top;
  w->h.n_upper = index->n_upper;
  (void)pthread_rwlock_unlock(&index->lock);
  w->p = plan_of(index, w->h.n, w->h.n_upper);
  w->h.file_bytes = w->p.file_bytes;
  w->h.sum = sum_of_header(&w->h);
}

static aiinfra_status write_file(writer *w, const char *path, aiinfra_error *err)
{
  aii_mem *mem = w->index->mem;
  aii_aside file;
  size_t n_sums = (size_t)w->p.n_sections + 1;
  w->buffer_bytes = AII_MAX(w->p.block.bytes, PIECE * sizeof(uint32_t));
  w->buffer = aii_new_raw(mem, w->buffer_bytes);
  w->sums = aii_new_array(mem, n_sums, sizeof *w->sums);
  aiinfra_status rc = AIINFRA_OK;
  if (w->buffer == NULL || w->sums == NULL) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a snapshot");
  if (rc == AIINFRA_OK) rc = aii_aside_open(&file, mem, path, err);
  if (rc == AIINFRA_OK) rc = aii_aside_close(&file, write_sections(w, &file, err), err);
  aii_del(mem, w->buffer, w->buffer_bytes);
  aii_del(mem, w->sums, n_sums * sizeof *w->sums);
  return rc;
}

aiinfra_status aii_snapshot_write(aii_index *index, aii_snapshot_id *id, const char *path, aii_snapshot_size *size,
                                  aiinfra_error *err)
{
  writer w = {.index = index};
  aiinfra_status rc;
  (void)pthread_mutex_lock(&index->build);
  fix(&w, id);
  if (w.h.n_graph == 0 || id->max_seq < 0) rc = aii_fail(err, AIINFRA_ECANCELED, "there is no graph to write");
  else rc = write_file(&w, path, err);
  (void)pthread_mutex_unlock(&index->build);
  *size = (aii_snapshot_size){w.h.n, w.h.n_graph, w.p.file_bytes};
  return rc;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static aiinfra_status wrong(aiinfra_error *err, const char *what)
{
  return aii_fail(err, AIINFRA_EFORMAT, "%s", what);
}

static aiinfra_status read_at(int fd, uint64_t at, void *to, size_t n, aiinfra_error *err)
{
  uint8_t *p = to;
  while (n > 0) {
    ssize_t got = pread(fd, p, n, (off_t)at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return aii_fail_errno(err, errno, "read");
    if (got == 0) return wrong(err, "it is cut short");
    p += got;
    at += (uint64_t)got;
    n -= (size_t)got;
  }
  return AIINFRA_OK;
}

static aiinfra_status check_header(const aii_index *index, const aii_snapshot_id *id, const header *h, uint64_t size,
                                   aiinfra_error *err)
{
  header want = header_of(index, id);
  if (memcmp(h->magic, want.magic, sizeof want.magic) != 0) return wrong(err, "it is no snapshot");
  if (h->order != want.order) return wrong(err, "it comes from a machine of another byte order");
  if (h->version != want.version) return wrong(err, "it was made by another version");
  if (h->sum != sum_of_header(h)) return wrong(err, "the sum of its header is wrong");
  if (memcmp(&h->id, &want.id, sizeof want.id) != 0) return wrong(err, "it belongs to another state of the database");
  if (memcmp(&h->dims, &want.dims, offsetof(header, n) - offsetof(header, dims)) != 0) {
    return wrong(err, "it belongs to a collection with other options");
  }
  if (h->n > AII_MAX_SLOTS || h->n_graph == 0 || h->n_graph > h->n || h->n_blurred > h->n_graph ||
      h->entry >= h->n_graph || h->top > AII_MAX_LEVEL || h->n_upper > UINT32_MAX) {
    return wrong(err, "its numbers are impossible");
  }
  plan p = plan_of(index, h->n, h->n_upper);
  if (h->file_bytes != p.file_bytes || size != p.file_bytes) return wrong(err, "its size is wrong");
  return AIINFRA_OK;
}

typedef struct reader {
  aii_index *index;
  header h;
  plan p;
  int fd;
  uint64_t at;
  uint8_t *buffer;
  uint64_t *sums;
  size_t buffer_bytes;
} reader;

static aiinfra_status read_sums(reader *r, aiinfra_error *err)
{
  size_t n = (size_t)r->p.n_sections;
  uint64_t bytes = (n + 1) * sizeof *r->sums;
  aiinfra_status rc = read_at(r->fd, r->p.file_bytes - bytes, r->sums, (size_t)bytes, err);
  if (rc == AIINFRA_OK && r->sums[n] != aii_hash64(r->sums, n * sizeof *r->sums, r->h.id.nonce)) {
    rc = wrong(err, "the sum of its sums is wrong");
  }
  return rc;
}

static void take_block(const reader *r, aii_block *b)
{
  const layout *l = &r->p.block;
  const uint8_t *from = r->buffer;
  memcpy(b->codes, from + l->codes, (size_t)AII_BLOCK_SLOTS * r->index->code_bytes);
  memcpy(b->fine, from + l->fine, (size_t)AII_BLOCK_SLOTS * r->index->fine_bytes);
  memcpy(b->ids, from + l->ids, sizeof b->ids);
  memcpy(b->scale, from + l->scale, sizeof b->scale);
  memcpy(b->norm, from + l->norm, sizeof b->norm);
  memcpy(b->error, from + l->error, sizeof b->error);
  memcpy(b->sum, from + l->sum, sizeof b->sum);
  memcpy(b->upper, from + l->upper, sizeof b->upper);
  memcpy(b->level, from + l->level, sizeof b->level);
  for (size_t i = 0; i < AII_BLOCK_SLOTS; i++) b->dead[i] = from[l->dead + i] != 0;
}

/* Links behind the graph are as if the graph had never come there. */
static bool take_links(const reader *r, aii_block *b, uint32_t first)
{
  size_t slot_bytes = (size_t)2 * r->index->m * sizeof(uint32_t), bytes = AII_BLOCK_SLOTS * slot_bytes;
  if (first >= r->h.n_graph) return true;
  size_t n = AII_MIN((size_t)AII_BLOCK_SLOTS, (size_t)r->h.n_graph - first);
  b->links0 = aii_new_aligned(r->index->mem, bytes);
  if (b->links0 == NULL) return false;
  memset(b->links0, 0xFF, bytes);
  memcpy(b->links0, r->buffer + r->p.block.links0, n * slot_bytes);
  return true;
}

static aiinfra_status take_section(reader *r, uint64_t section, size_t bytes, aiinfra_error *err)
{
  aii_index *index = r->index;
  if (section < r->p.n_pieces) {
    memcpy(index->upper + section * PIECE, r->buffer, bytes);
    return AIINFRA_OK;
  }
  if (!aii_index_add_block(index)) return aii_fail(err, AIINFRA_ENOMEM, "no memory for an index");
  aii_block *b = index->blocks[index->n_blocks - 1];
  if (index->floats) memset(b->vectors, 0, (size_t)AII_BLOCK_SLOTS * index->dims * sizeof(float));
  take_block(r, b);
  if (take_links(r, b, (uint32_t)(index->n_blocks - 1) * AII_BLOCK_SLOTS)) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a graph");
}

static aiinfra_status read_sections(reader *r, aiinfra_error *err)
{
  aii_index *index = r->index;
  aiinfra_status rc = read_sums(r, err);
  index->floats = (uint64_t)r->h.n * index->dims <= index->vector_bytes / sizeof(float);
  if (rc == AIINFRA_OK &&
      !aii_grow(index->mem, &index->upper, &index->upper_cap, (size_t)r->h.n_upper, sizeof *index->upper)) {
    rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a graph");
  }
  r->at = sizeof r->h;
  for (uint64_t i = 0; rc == AIINFRA_OK && i < r->p.n_sections; i++) {
    size_t bytes = section_bytes(&r->p, r->h.n_upper, i);
    rc = read_at(r->fd, r->at, r->buffer, bytes, err);
    if (rc == AIINFRA_OK && r->sums[i] != aii_hash64(r->buffer, bytes, i))
      rc = wrong(err, "the sum of a part is wrong");
    if (rc == AIINFRA_OK) rc = take_section(r, i, bytes, err);
    r->at += bytes;
  }
  return rc;
}

/* ---- what the numbers say ------------------------------------------------------------------------------------------ */

/* Links are slots of the graph that are on this level, then AII_NO_SLOT. */
static bool check_links(const aii_index *index, uint32_t slot, uint32_t level)
{
  const uint32_t *links = aii_links_of(index, slot, level);
  uint32_t room = aii_link_room(index, level), i = 0;
  for (; i < room && links[i] != AII_NO_SLOT; i++) {
    if (links[i] >= index->n_graph) return false;
    if (aii_block_of(index, links[i])->level[links[i] % AII_BLOCK_SLOTS] < level) return false;
  }
  for (; i < room; i++) {
    if (links[i] != AII_NO_SLOT) return false;
  }
  return true;
}

static bool check_slot(const aii_index *index, uint32_t slot)
{
  const aii_block *b = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS, level = b->level[at];
  if (!(b->scale[at] >= 0) || !(b->norm[at] >= 0) || !(b->error[at] >= 0)) return false; /* NaN */
  if (slot >= index->n_graph) return level == 0;
  if (level > index->top) return false;
  if (level > 0 && (uint64_t)b->upper[at] + (uint64_t)level * index->m > index->n_upper) return false;
  for (uint32_t l = 0; l <= level; l++) {
    if (!check_links(index, slot, l)) return false;
  }
  return true;
}

/* Their upper links lie one behind the other in the order of slots, as heal.c wants it. */
static bool check_upper(const aii_index *index)
{
  uint64_t end = 0;
  for (uint32_t slot = 0; slot < index->n_graph; slot++) {
    const aii_block *b = aii_block_of(index, slot);
    uint32_t at = slot % AII_BLOCK_SLOTS;
    if (b->level[at] == 0) continue;
    if (b->upper[at] < end) return false;
    end = (uint64_t)b->upper[at] + (uint64_t)b->level[at] * index->m;
  }
  return end <= index->n_upper;
}

/* An id has one live slot. */
static aiinfra_status add_id(aii_index *index, uint32_t slot, aiinfra_error *err)
{
  const aii_block *b = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS, other = aii_idmap_get(&index->map, b->ids[at]);
  aii_index_note(index, b->scale[at], b->norm[at], b->error[at]);
  index->n_dead += b->dead[at];
  if (other != AII_NO_SLOT && b->dead[at]) return AIINFRA_OK;
  if (other != AII_NO_SLOT && !aii_is_dead(index, other)) return wrong(err, "an id is in it twice");
  if (aii_idmap_set(&index->map, b->ids[at], slot)) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for an index");
}

static aiinfra_status check_slots(const header *h, aii_index *index, aiinfra_error *err)
{
  index->n = h->n;
  index->n_graph = h->n_graph;
  index->n_blurred = h->n_blurred;
  index->entry = h->entry;
  index->top = h->top;
  index->n_upper = (size_t)h->n_upper;
  if (aii_block_of(index, h->entry)->level[h->entry % AII_BLOCK_SLOTS] != h->top)
    return wrong(err, "its entry is wrong");
  if (!aii_idmap_reserve(&index->map, h->n)) return aii_fail(err, AIINFRA_ENOMEM, "no memory for an index");
  if (!check_upper(index)) return wrong(err, "its upper links are impossible");
  for (uint32_t slot = 0; slot < h->n; slot++) {
    if (!check_slot(index, slot)) return wrong(err, "its links are impossible");
    aiinfra_status rc = add_id(index, slot, err);
    if (rc != AIINFRA_OK) return rc;
  }
  return AIINFRA_OK;
}

static aiinfra_status read_file(reader *r, aiinfra_error *err)
{
  aii_mem *mem = r->index->mem;
  size_t n_sums = (size_t)r->p.n_sections + 1;
  r->buffer_bytes = AII_MAX(r->p.block.bytes, PIECE * sizeof(uint32_t));
  r->buffer = aii_new_raw(mem, r->buffer_bytes);
  r->sums = aii_new_array(mem, n_sums, sizeof *r->sums);
  aiinfra_status rc = AIINFRA_OK;
  if (r->buffer == NULL || r->sums == NULL) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a snapshot");
  if (rc == AIINFRA_OK) rc = read_sections(r, err);
  if (rc == AIINFRA_OK) rc = check_slots(&r->h, r->index, err);
  if (rc == AIINFRA_OK) r->index->seq = r->h.id.max_seq;
  else aii_index_clear(r->index);
  aii_del(mem, r->buffer, r->buffer_bytes);
  aii_del(mem, r->sums, n_sums * sizeof *r->sums);
  return rc;
}

aiinfra_status aii_snapshot_read(aii_index *index, const aii_snapshot_id *id, int fd, aiinfra_error *err)
{
  reader r = {.index = index, .fd = fd};
  struct stat st;
  if (fstat(fd, &st) != 0) return aii_fail_errno(err, errno, "look at the file");
  if (!S_ISREG(st.st_mode) || (size_t)st.st_size < sizeof r.h) return wrong(err, "it is cut short");
  aiinfra_status rc = read_at(fd, 0, &r.h, sizeof r.h, err);
  if (rc == AIINFRA_OK) rc = check_header(index, id, &r.h, (uint64_t)st.st_size, err);
  if (rc != AIINFRA_OK) return rc;
  r.p = plan_of(index, r.h.n, r.h.n_upper);
  return read_file(&r, err);
}

bool aii_snapshot_seal(const aii_index *index, uint8_t *bytes, size_t n)
{
  header h;
  if (n < sizeof h) return false;
  memcpy(&h, bytes, sizeof h);
  if (h.n > AII_MAX_SLOTS || h.n_upper > UINT32_MAX) return false;
  plan p = plan_of(index, h.n, h.n_upper);
  if (p.file_bytes != n) return false;
  h.file_bytes = n;
  h.sum = sum_of_header(&h);
  memcpy(bytes, &h, sizeof h);
  uint8_t *at = bytes + sizeof h, *sums = bytes + n - (size_t)(p.n_sections + 1) * sizeof(uint64_t);
  for (uint64_t i = 0; i <= p.n_sections; i++) {
    size_t some = i < p.n_sections ? section_bytes(&p, h.n_upper, i) : 0;
    uint64_t sum =
        i < p.n_sections ? aii_hash64(at, some, i) : aii_hash64(sums, (size_t)p.n_sections * sizeof sum, h.id.nonce);
    memcpy(sums + i * sizeof sum, &sum, sizeof sum);
    at += some;
  }
  return true;
}
