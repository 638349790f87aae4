/* kernels/x86/kernels_avx512.c - the table for AVX-512 F, BW, VL, DQ and VNNI. */
#include "kernels/x86/lanes_avx512.h"

#ifndef AII_TABLE /* a test that emulates AVX-512 names its table itself */
#define AII_TABLE aii_kernels_avx512
#define AII_TABLE_NAME "avx512"
#endif
#define AII_TABLE_ISA AIINFRA_ISA_AVX512
#include "kernels/x86/ops_table.h"
