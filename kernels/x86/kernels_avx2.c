/* kernels/x86/kernels_avx2.c - the table for AVX2, FMA and F16C. */
#include "kernels/x86/lanes_avx2.h"

#define AII_TABLE aii_kernels_avx2
#define AII_TABLE_NAME "avx2"
#define AII_TABLE_ISA AIINFRA_ISA_AVX2
#include "kernels/x86/ops_table.h"
