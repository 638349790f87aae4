/* kernels/kernels.c - which table this CPU gets, and the sizes of rows. */
#include "kernels/kernels.h"

#include "kernels/x86/x86.h"

const aii_kernels *aii_kernels_get(int32_t isa)
{
#if defined(__x86_64__)
  if (isa == AIINFRA_ISA_DEFAULT) isa = aii_x86_isa();
  if (isa == AIINFRA_ISA_REF) return &aii_kernels_ref;
  if (isa > aii_x86_isa()) return NULL;
  if (isa == AIINFRA_ISA_AVX2) return &aii_kernels_avx2;
  if (isa == AIINFRA_ISA_AVX512) return &aii_kernels_avx512;
  return NULL;
#else
  return isa == AIINFRA_ISA_DEFAULT || isa == AIINFRA_ISA_REF ? &aii_kernels_ref : NULL;
#endif
}

size_t aii_fmt_row_bytes(aii_fmt fmt, size_t n)
{
  switch (fmt) {
    case AII_FMT_F32: return n * 4;
    case AII_FMT_F16:
    case AII_FMT_BF16: return n * 2;
    case AII_FMT_Q8_0: return n / AII_QBLOCK * AII_Q8_0_BYTES;
    case AII_FMT_Q4_0: return n / AII_QBLOCK * AII_Q4_0_BYTES;
    case AII_FMT_COUNT: break;
  }
  return 0;
}

bool aii_fmt_quantised(aii_fmt fmt)
{
  return fmt == AII_FMT_Q8_0 || fmt == AII_FMT_Q4_0;
}

size_t aii_q8_row_bytes(size_t n)
{
  size_t n64 = (n + 63) / 64 * 64;
  return (n64 + n64 / AII_QBLOCK * sizeof(float) + 63) / 64 * 64;
}
