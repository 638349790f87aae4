/* kernels/x86/kernels_avxvnni.c - the table for AVX-VNNI beside AVX2: processors of clients without AVX-512. */
#define AII_AVXVNNI
#include "kernels/x86/lanes_avx2.h"

#define AII_TABLE aii_kernels_avxvnni
#define AII_TABLE_NAME "avxvnni"
#define AII_TABLE_ISA AIINFRA_ISA_AVXVNNI
#include "kernels/x86/ops_table.h"
