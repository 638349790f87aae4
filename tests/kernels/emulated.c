/* emulated.c - compiles the AVX-512 kernels over SIMDe, which does the wide operations with AVX2.
 *
 * SIMDe lacks a few of the intrinsics; they are put together from two AVX2 halves here, dpbusd by its definition.
 * Without SIMDe, gcc or AVX2 there is no emulation, and the test says so.
 */
#include "tests/kernels/emulated.h"

#include "kernels/x86/x86.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __has_include(<simde/x86/avx512.h>)
#pragma GCC target("avx2,fma,f16c,bmi2")
#pragma GCC diagnostic ignored "-Wpsabi" /* wide vectors pass between inlined functions only */
#define AII_AVX512_HEADER "tests/kernels/simde_avx512.h"
#define AII_FLOAT_COLS 4
#define AII_QUANT_COLS 2
#define AII_TABLE aii_kernels_emulated
#define AII_TABLE_NAME "avx512 emulated"
extern const aii_kernels aii_kernels_emulated;
#include "kernels/x86/kernels_avx512.c"

const aii_kernels *test_emulated_avx512(void)
{
  return aii_x86_has(AIINFRA_ISA_AVX2) ? &aii_kernels_emulated : NULL;
}
#else
const aii_kernels *test_emulated_avx512(void)
{
  return NULL;
}
#endif
