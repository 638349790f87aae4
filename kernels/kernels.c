/* kernels/kernels.c - which table this CPU gets, and the formats of rows. */
#include "kernels/kernels.h"

#include "kernels/ref/encode.h"
#include "kernels/x86/x86.h"

const aii_kernels *aii_kernels_get(int32_t isa)
{
#if defined(__x86_64__)
  if (isa == AIINFRA_ISA_DEFAULT) isa = aii_x86_isa();
  if (isa == AIINFRA_ISA_REF) return &aii_kernels_ref;
  if (!aii_x86_has(isa)) return NULL;
  if (isa == AIINFRA_ISA_AVX2) return &aii_kernels_avx2;
  if (isa == AIINFRA_ISA_AVXVNNI) return &aii_kernels_avxvnni;
  if (isa == AIINFRA_ISA_AVX512) return &aii_kernels_avx512;
  if (isa == AIINFRA_ISA_AMX) return &aii_kernels_amx;
  return NULL;
#else
  return isa == AIINFRA_ISA_DEFAULT || isa == AIINFRA_ISA_REF ? &aii_kernels_ref : NULL;
#endif
}

bool aii_kernels_pair_bf16(const aii_kernels *k)
{
  if (k == &aii_kernels_ref) return true;
#if defined(__x86_64__)
  return k->product[AII_FMT_BF16_PAIRS] != NULL && aii_x86_has_bf16();
#else
  return false;
#endif
}

const aii_fmt_traits *aii_fmt_info(aii_fmt fmt)
{
#define ROW(NAME, name, id, block, bytes, encode) {#NAME, id, block, bytes, encode},
  static const aii_fmt_traits formats[AII_FMT_COUNT] = {AII_FORMATS(ROW)};
#undef ROW
  return (unsigned)fmt < AII_FMT_COUNT ? &formats[fmt] : NULL;
}

size_t aii_fmt_row_bytes(aii_fmt fmt, size_t n)
{
  const aii_fmt_traits *t = aii_fmt_info(fmt == AII_FMT_BF16_PAIRS ? AII_FMT_BF16 : fmt);
  return t != NULL ? n / t->block * t->block_bytes : 0;
}

bool aii_fmt_in_panels(aii_fmt fmt)
{
  return fmt < AII_FMT_PACKED || fmt == AII_FMT_BF16_PAIRS;
}

bool aii_fmt_takes_q8(aii_fmt fmt)
{
  return fmt >= AII_FMT_Q8_0 && fmt < AII_FMT_PACKED;
}

size_t aii_q8_row_bytes(size_t n)
{
  size_t n64 = (n + 63) / 64 * 64;
  return (n64 + n64 / AII_QBLOCK * (2 * sizeof(float) + 3 * sizeof(int32_t)) + 63) / 64 * 64;
}

size_t aii_bf16_row_bytes(size_t n)
{
  return ((2 * n + 63) / 64 | 1) * 64;
}
