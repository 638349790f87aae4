/* machine.c - what this machine can do at most: gigabytes read a second, and multiply-adds a second. Prints JSON.
 *
 * machine [THREADS [MEGABYTES [avx2]]]   as many threads as CPUs, 1024 MB by default, which must exceed the caches. With
 * avx2 nothing newer than AVX2 is used.
 *
 * Every thread stands on a CPU of its own. The best of several runs counts, because a limit is asked for. Integers are
 * products of unsigned and signed bytes in the widest instruction there is; nothing is loaded, widened or scaled, so no
 * product of quantised weights can be faster. Numbers are not zero: zeros need less power.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { RUNS = 7, MAX_THREADS = 1024, STEPS = 4000000 };

typedef struct job job;
typedef double work_fn(job *j); /* what one thread has done: bytes, or multiply-adds */

struct job {
  work_fn *work;
  pthread_barrier_t *barrier;
  size_t cpu;
  bool along; /* how memory is read */
  const uint64_t *memory;
  size_t n_words;
  double start, end, done;
};

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- memory -------------------------------------------------------------------------------------------------------------- */

typedef uint64_t words __attribute__((vector_size(32)));
static _Atomic uint64_t sink;

/* Four places at a time, fetched ahead: what Intel's CPUs read fastest. */
static inline __attribute__((always_inline)) double read_places(const job *j)
{
  enum { STREAMS = 4, STEP = 8, AHEAD = 128 };
  const words *p = (const words *)(const void *)j->memory;
  words sum[STREAMS] = {{0}};
  size_t each = j->n_words / 4 / STREAMS & ~(size_t)(STEP - 1);
  for (size_t i = 0; i < each; i += STEP) {
    for (size_t s = 0; s < STREAMS; s++) {
      const words *q = p + s * each + i;
      for (size_t k = 0; k < STEP; k += 2) __builtin_prefetch(q + k + AHEAD, 0, 3);
      for (size_t k = 0; k < STEP; k++) sum[s] ^= q[k];
    }
  }
  for (int i = 0; i < 4; i++) sink += sum[0][i] ^ sum[1][i] ^ sum[2][i] ^ sum[3][i];
  return (double)(STREAMS * each) * sizeof *p;
}

/* One word after the other, which the CPU fetches ahead by itself: AMD's are twice as fast so. */
static inline __attribute__((always_inline)) double read_along(const job *j)
{
  enum { STEP = 8 };
  const words *p = (const words *)(const void *)j->memory;
  words sum[STEP] = {{0}};
  size_t n = j->n_words / 4 & ~(size_t)(STEP - 1);
  for (size_t i = 0; i < n; i += STEP)
    for (size_t k = 0; k < STEP; k++) sum[k] ^= p[i + k];
  for (size_t k = 0; k < STEP; k++) sink += sum[k][0] ^ sum[k][1] ^ sum[k][2] ^ sum[k][3];
  return (double)n * sizeof *p;
}

static double read_portable(job *j)
{
  return j->along ? read_along(j) : read_places(j);
}

/* ---- arithmetic ------------------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#include <cpuid.h>

__attribute__((target("avx2"))) static double read_avx2(job *j)
{
  return j->along ? read_along(j) : read_places(j);
}

/* Twelve sums in registers 0 to 11, so that none waits for itself; factors in 14 and 15. Assembly, because compilers
 * multiply only once, or keep sums in memory. V is "ymm" or "zmm". */
enum { SUMS = 12 };
#define TWELVE(line, V)                                                                                         \
  line(V, 0) line(V, 1) line(V, 2) line(V, 3) line(V, 4) line(V, 5) line(V, 6) line(V, 7) line(V, 8) line(V, 9) \
      line(V, 10) line(V, 11)
#define FILL(V, r) "vpbroadcastd %2, %%" V #r "\n"
#define RATE(name, macs, V, line, ...)                                                                                \
  static double name(job *j)                                                                                          \
  {                                                                                                                   \
    static const uint32_t factors[2] = {__VA_ARGS__};                                                                 \
    long steps = STEPS;                                                                                               \
    (void)j;                                                                                                          \
    __asm__ volatile(TWELVE(FILL, V) FILL(V, 14) "vpbroadcastd %1, %%" V "15\n"                                       \
                                                 "1:\n" TWELVE(line, V) "dec %0\njnz 1b\nvzeroupper"                  \
                     : "+r"(steps)                                                                                    \
                     : "m"(factors[0]), "m"(factors[1])                                                               \
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
                       "xmm11", "xmm12", "xmm14", "xmm15");                                                           \
    return (double)macs * SUMS * STEPS;                                                                               \
  }

#define MADDUBS(V, r) "vpmaddubsw %%" V "14, %%" V "15, %%" V "12\nvpaddw %%" V "12, %%" V #r ", %%" V #r "\n"
#define DPBUSD(V, r) "vpdpbusd %%" V "14, %%" V "15, %%" V #r "\n"
#define DPBUSD_VEX(V, r) "%{vex%} " DPBUSD(V, r)
#define FMA(V, r) "vfmadd213ps %%" V "14, %%" V "15, %%" V #r "\n"
#define DPBF16(V, r) "vdpbf16ps %%" V "14, %%" V "15, %%" V #r "\n"
#define BYTES 0x05090307, 0x13f105e3
#define FLOATS 0x3f666666, 0x3c23d70a /* 0.9, 0.01 */
#define HALVES 0x3c243c24, 0x3c243c24 /* pairs of 0.01 as BF16 */
RATE(int8_avx2, 32, "ymm", MADDUBS, BYTES)
RATE(int8_avxvnni, 32, "ymm", DPBUSD_VEX, BYTES)
RATE(int8_avx512, 64, "zmm", DPBUSD, BYTES)
RATE(f32_avx2, 8, "ymm", FMA, FLOATS)
RATE(f32_avx512, 16, "zmm", FMA, FLOATS)
RATE(bf16_avx512, 32, "zmm", DPBF16, HALVES)
#endif

/* ---- threads ---------------------------------------------------------------------------------------------------------------- */

static void *run_one(void *arg)
{
  job *j = arg;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(j->cpu, &set);
  (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
  pthread_barrier_wait(j->barrier);
  j->start = now();
  j->done = j->work(j);
  j->end = now();
  return NULL;
}

/* A second, of all threads together, from the first one's start to the last one's end. */
static double run_all(job *jobs, int n)
{
  pthread_t threads[MAX_THREADS];
  pthread_barrier_t barrier;
  double start = 1e300, end = 0, done = 0;
  pthread_barrier_init(&barrier, NULL, (unsigned)n);
  for (int i = 0; i < n; i++) {
    jobs[i].barrier = &barrier;
    if (pthread_create(&threads[i], NULL, run_one, &jobs[i]) != 0) exit(1);
  }
  for (int i = 0; i < n; i++) {
    pthread_join(threads[i], NULL);
    if (jobs[i].start < start) start = jobs[i].start;
    if (jobs[i].end > end) end = jobs[i].end;
    done += jobs[i].done;
  }
  pthread_barrier_destroy(&barrier);
  return done / (end - start);
}

static double best(job *jobs, int n, work_fn *work)
{
  double most = 0;
  for (int run = 0; run < RUNS && work != NULL; run++) {
    double rate;
    for (int i = 0; i < n; i++) jobs[i].work = work;
    rate = run_all(jobs, n);
    if (rate > most) most = rate;
  }
  return most * 1e-9;
}

/* ---- all of it -------------------------------------------------------------------------------------------------------------- */

static double best_read(job *jobs, int n, work_fn *work)
{
  double places = best(jobs, n, work);
  for (int i = 0; i < n; i++) jobs[i].along = true;
  double along = best(jobs, n, work);
  return places > along ? places : along;
}

typedef struct ways {
  work_fn *read, *int8, *f32, *bf16; /* NULL: not known here */
  const char *int8_name, *f32_name;
} ways;

#if defined(__x86_64__)
/* Not every compiler's __builtin_cpu_supports() knows its name. */
static bool has_avxvnni(void)
{
  unsigned a, b, c, d;
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}
#endif

static ways find_ways(bool old)
{
  ways w = {.read = read_portable, .int8_name = "", .f32_name = ""};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    w.read = read_avx2;
    w.int8 = int8_avx2;
    w.f32 = f32_avx2;
    w.int8_name = "AVX2 vpmaddubsw";
    w.f32_name = "AVX2 vfmadd";
  }
  if (old) return w;
  if (has_avxvnni()) {
    w.int8 = int8_avxvnni;
    w.int8_name = "AVX-VNNI vpdpbusd";
  }
  if (__builtin_cpu_supports("avx512f")) {
    w.f32 = f32_avx512;
    w.f32_name = "AVX-512 vfmadd";
  }
  if (__builtin_cpu_supports("avx512vnni")) {
    w.int8 = int8_avx512;
    w.int8_name = "AVX-512 vpdpbusd";
  }
  if (__builtin_cpu_supports("avx512bf16")) w.bf16 = bf16_avx512;
#endif
  (void)old;
  return w;
}

/* Which CPUs this process may use; returns how many. */
static int find_cpus(job *jobs)
{
  cpu_set_t set;
  int n = 0;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
  for (size_t cpu = 0; cpu < CPU_SETSIZE && n < MAX_THREADS; cpu++) {
    if (CPU_ISSET(cpu, &set)) jobs[n++].cpu = cpu;
  }
  return n;
}

static uint64_t *make_memory(size_t n_words)
{
  uint64_t *memory = mmap(NULL, n_words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return NULL;
  (void)madvise(memory, n_words * 8, MADV_HUGEPAGE);
  for (size_t i = 0; i < n_words; i++) memory[i] = (i + 1) * 0x9e3779b97f4a7c15u;
  return memory;
}

int main(int argc, char **argv)
{
  static job jobs[MAX_THREADS];
  int n_cpus = find_cpus(jobs), n = argc > 1 ? atoi(argv[1]) : n_cpus;
  size_t megabytes = argc > 2 ? (size_t)atoi(argv[2]) : 1024, n_words = megabytes << 17;
  ways w = find_ways(argc > 3 && strcmp(argv[3], "avx2") == 0);
  uint64_t *memory = make_memory(n_words);
  if (n < 1 || n > n_cpus || memory == NULL) {
    fprintf(stderr, "machine: %s\n", memory == NULL ? "no memory" : "as many threads as there are CPUs, at most");
    return 1;
  }
  for (int i = 0; i < n; i++) {
    jobs[i].n_words = n_words / (size_t)n;
    jobs[i].memory = memory + (size_t)i * (n_words / (size_t)n & ~(size_t)7);
  }
  printf("{\"threads\": %d, \"read_gbs\": %.3f, ", n, best_read(jobs, n, w.read));
  printf("\"int8_gmacs\": %.3f, \"int8\": \"%s\", ", best(jobs, n, w.int8), w.int8_name);
  printf("\"f32_gmacs\": %.3f, \"f32\": \"%s\", ", best(jobs, n, w.f32), w.f32_name);
  printf("\"bf16_gmacs\": %.3f}\n", best(jobs, n, w.bf16));
  munmap(memory, n_words * 8);
  return 0;
}
