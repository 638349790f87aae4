/* kernels/x86/cpu.c - asks the CPU by cpuid, and by xgetbv whether the system saves the wide registers.
 *
 * A CPU may have AVX while the system (or a hypervisor) does not save its registers: using them would then be an
 * illegal instruction, so both are asked. The answer is computed on each call; it is asked once a backend.
 */
#include <cpuid.h>

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
/* cpuid leaf 7, subleaf 1, eax */
#define CPU71_AVX_VNNI (1u << 4)
/* xcr0: SSE and AVX state; opmask, upper halves and upper registers of AVX-512 */
#define XCR0_AVX 0x6u
#define XCR0_AVX512 0xe6u

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
      has(os, XCR0_AVX512))
    found |= 1u << AIINFRA_ISA_AVX512;
  if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && has(a, CPU71_AVX_VNNI))
    found |= 1u << AIINFRA_ISA_AVXVNNI;
  return found;
}

bool aii_x86_has(int32_t isa)
{
  return isa >= AIINFRA_ISA_REF && isa <= AIINFRA_ISA_AVXVNNI && (isas() >> isa & 1) != 0;
}

int32_t aii_x86_isa(void)
{
  static const int32_t best_first[] = {AIINFRA_ISA_AVX512, AIINFRA_ISA_AVXVNNI, AIINFRA_ISA_AVX2};
  for (size_t i = 0; i < sizeof best_first / sizeof best_first[0]; i++)
    if (aii_x86_has(best_first[i])) return best_first[i];
  return AIINFRA_ISA_REF;
}
