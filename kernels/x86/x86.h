/* kernels/x86/x86.h - the tables for x86-64, and what the CPU and the system can run. */
#ifndef AII_KERNELS_X86_H
#define AII_KERNELS_X86_H

#include "kernels/kernels.h"

#if defined(__x86_64__)
/* The CPU has an aiinfra_isa's instructions, and the system saves its registers; for AMX that is asked for, once and for
 * the process. Thread: any. */
bool aii_x86_has(int32_t isa);
int32_t aii_x86_isa(void);   /* the best of them */
bool aii_x86_has_bf16(void); /* AVX512-BF16 besides AVX-512 */
/* What comes from memory is best fetched into the first-level cache, or else into the second. Thread: any. */
bool aii_x86_fetches_first(void);

extern const aii_kernels aii_kernels_avx2;
extern const aii_kernels aii_kernels_avxvnni;
extern const aii_kernels aii_kernels_avx512;
void aii_bf16_product(const aii_product *p); /* with BF16_PAIRS, by AVX512-BF16 */
extern const aii_kernels aii_kernels_amx;    /* AVX-512's but for these: */
#define AII_AMX_PRODUCT(NAME, name, ...) void aii_amx_product_##name(const aii_product *p);
AII_AMX_PRODUCT(Q8_0, q8_0)
AII_AMX_PRODUCT(Q4_0, q4_0)
AII_PANEL_FORMATS(AII_AMX_PRODUCT)
#undef AII_AMX_PRODUCT
#endif

#endif
