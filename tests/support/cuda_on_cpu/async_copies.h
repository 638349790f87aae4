/* async_copies.h - cp.async on the CPU: a copy is made when its thread waits for it, not before.
 *
 * So a kernel that reads shared memory without having waited reads what was there, and its test fails.
 */
#ifndef AII_TESTS_ASYNC_COPIES_H
#define AII_TESTS_ASYNC_COPIES_H

#include <deque>

namespace cuda_on_cpu
{

struct later {
  void *to;
  const void *from;
  size_t bytes;
  unsigned group;
};

struct copier {
  std::deque<later> copies;
  unsigned group;
};

inline copier &my_copies()
{
  static std::vector<copier> all;
  if (all.size() < it().fibres.size()) all.resize(it().fibres.size());
  return all[it().current];
}

static inline void copy_later(void *to, const void *from, size_t bytes)
{
  copier &c = my_copies();
  if ((uintptr_t)to % bytes != 0 || (uintptr_t)from % bytes != 0) {
    fprintf(stderr, "a copy of %zu bytes to or from an address that is no multiple of it\n", bytes);
    abort();
  }
  fake_cuda_async_bytes += bytes;
  c.copies.push_back({to, from, bytes, c.group});
}

static inline void commit_copies()
{
  my_copies().group++;
}

static inline void wait_copies(unsigned but)
{
  copier &c = my_copies();
  while (!c.copies.empty() && c.group - c.copies.front().group > but) {
    memcpy(c.copies.front().to, c.copies.front().from, c.copies.front().bytes);
    c.copies.pop_front();
  }
}

} // namespace cuda_on_cpu

#endif
