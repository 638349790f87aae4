/* kernels/x86/kernels_avx512.c - the table for AVX-512 F, BW, VL, DQ and VNNI, and the one that has AMX besides. */
#include "kernels/x86/lanes_avx512.h"

#ifndef AII_TABLE /* a test that emulates AVX-512 names its table itself */
#define AII_TABLE aii_kernels_avx512
#define AII_TABLE_NAME "avx512"
#define AII_WITH_AMX
#define AII_PAIRS_PRODUCT aii_bf16_product /* where the CPU has its instruction */
#endif
#define AII_TABLE_ISA AIINFRA_ISA_AVX512
#include "kernels/x86/ops_table.h"

#ifdef AII_WITH_AMX
#define AMX_PRODUCT(NAME, name, ...) aii_amx_product_##name,
const aii_kernels aii_kernels_amx = {
    .name = "amx",
    .isa = AIINFRA_ISA_AMX,
    AII_OPERATIONS(product_f32, product_f16, product_bf16, aii_amx_product_q8_0, aii_amx_product_q4_0,
                   AII_PANEL_FORMATS(AMX_PRODUCT) AII_UNPACKED_FORMATS(AII_PRODUCT) aii_bf16_product)};
#endif
