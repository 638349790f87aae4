/* kernels/x86/cpu.c - asks the CPU by cpuid, and by xgetbv whether the system saves the wide registers.
 *
 * A CPU may have AVX while the system (or a hypervisor) does not save its registers: using them would then be an
 * illegal instruction, so both are asked. The answer is computed on each call; it is asked once a backend.
 *
 * The registers of AMX are large, so Linux saves them only for a process that asked for it. From then on it refuses
 * alternate signal stacks that would be too small for them (sigaltstack() with less than about 11 KB); where a thread has
 * such a stack already, it refuses the registers. They are asked for when they are to be used, not before.
 */
#include <cpuid.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/x86/x86.h"

/* cpuid leaf 1 ecx */
#define CPU1_FMA (1u << 12)
#define CPU1_OSXSAVE (1u << 27)
#define CPU1_AVX (1u << 28)
#define CPU1_F16C (1u << 29)
/* cpuid leaf 7 ebx and ecx */
#define CPU7_AVX2 (1u << 5)
#define CPU7_BMI2 (1u << 8)
#define CPU7_AVX512F (1u << 16)
#define CPU7_AVX512DQ (1u << 17)
#define CPU7_AVX512BW (1u << 30)
#define CPU7_AVX512VL (1u << 31)
#define CPU7C_VNNI (1u << 11)
/* cpuid leaf 7 edx */
#define CPU7D_AMX_TILE (1u << 24)
#define CPU7D_AMX_INT8 (1u << 25)
/* cpuid leaf 7, subleaf 1, eax */
#define CPU71_AVX_VNNI (1u << 4)
#define CPU71_AVX512_BF16 (1u << 5)
/* xcr0: SSE and AVX state; opmask, upper halves and upper registers of AVX-512; configuration and data of AMX */
#define XCR0_AVX 0x6u
#define XCR0_AVX512 0xe6u
#define XCR0_AMX 0x600e6u
/* arch_prctl of Linux 5.16 */
#define ASK_FOR_STATE 0x1023
#define STATE_AMX_DATA 18

static bool has(uint32_t word, uint32_t bits)
{
  return (word & bits) == bits;
}

static uint32_t xcr0(void)
{
  uint32_t lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return lo;
}

/* Linux saves AMX's registers for this process, asked once. Two threads that ask at a time get the same answer. */
static bool amx_granted(void)
{
  static _Atomic int answer; /* 0: not asked yet */
  int known = atomic_load_explicit(&answer, memory_order_relaxed);
  if (known == 0) {
#if defined(__linux__) && defined(SYS_arch_prctl)
    known = syscall(SYS_arch_prctl, ASK_FOR_STATE, STATE_AMX_DATA) == 0 ? 1 : -1;
#else
    known = -1;
#endif
    atomic_store_explicit(&answer, known, memory_order_relaxed);
  }
  return known == 1;
}

/* A bit for each aiinfra_isa. */
static uint32_t isas(void)
{
  uint32_t a, b, c, d, found = 1u << AIINFRA_ISA_REF;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
  if (!has(c, CPU1_FMA | CPU1_OSXSAVE | CPU1_AVX | CPU1_F16C)) return found;
  uint32_t os = xcr0();
  if (!has(os, XCR0_AVX)) return found;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(b, CPU7_AVX2 | CPU7_BMI2)) return found;
  uint32_t subleaves = a;
  found |= 1u << AIINFRA_ISA_AVX2;
  if (has(b, CPU7_AVX512F | CPU7_AVX512DQ | CPU7_AVX512BW | CPU7_AVX512VL) && has(c, CPU7C_VNNI) &&
      has(os, XCR0_AVX512)) {
    found |= 1u << AIINFRA_ISA_AVX512;
    if (has(d, CPU7D_AMX_TILE | CPU7D_AMX_INT8) && has(os, XCR0_AMX)) found |= 1u << AIINFRA_ISA_AMX;
  }
  if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && has(a, CPU71_AVX_VNNI))
    found |= 1u << AIINFRA_ISA_AVXVNNI;
  return found;
}

bool aii_x86_has(int32_t isa)
{
  if (isa < AIINFRA_ISA_REF || isa > AIINFRA_ISA_AMX || (isas() >> isa & 1) == 0) return false;
  return isa != AIINFRA_ISA_AMX || amx_granted();
}

/* Asked once: each weight that is uploaded wants to know. */
bool aii_x86_has_bf16(void)
{
  static _Atomic int answer; /* 0: not asked yet */
  int known = atomic_load_explicit(&answer, memory_order_relaxed);
  if (known == 0) {
    uint32_t a = 0, b, c, d;
    bool there = aii_x86_has(AIINFRA_ISA_AVX512) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && a >= 1 &&
                 __get_cpuid_count(7, 1, &a, &b, &c, &d) && has(a, CPU71_AVX512_BF16);
    known = there ? 1 : -1;
    atomic_store_explicit(&answer, known, memory_order_relaxed);
  }
  return known == 1;
}

int32_t aii_x86_isa(void)
{
  static const int32_t best_first[] = {AIINFRA_ISA_AMX, AIINFRA_ISA_AVX512, AIINFRA_ISA_AVXVNNI, AIINFRA_ISA_AVX2};
  for (size_t i = 0; i < sizeof best_first / sizeof best_first[0]; i++)
    if (aii_x86_has(best_first[i])) return best_first[i];
  return AIINFRA_ISA_REF;
}

/* AMD's (measured on a Zen 4) lose up to half of their speed when the first-level cache waits for memory; Intel's (measured
 * on a Sapphire Rapids) gain most by that. Asked once: a hypervisor takes long to answer. */
bool aii_x86_fetches_first(void)
{
  static _Atomic int answer; /* 0: not asked yet */
  int known = atomic_load_explicit(&answer, memory_order_relaxed);
  if (known == 0) {
    uint32_t a, b = 0, c = 0, d = 0;
    bool amd =
        __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
    known = amd ? -1 : 1;
    atomic_store_explicit(&answer, known, memory_order_relaxed);
  }
  return known == 1;
}
