/* kernels/x86/x86.h - the tables for x86-64, and what the CPU and the system can run. */
#ifndef AII_KERNELS_X86_H
#define AII_KERNELS_X86_H

#include "kernels/kernels.h"

#if defined(__x86_64__)
/* The CPU has an aiinfra_isa's instructions, and the system saves its registers. Thread: any. */
bool aii_x86_has(int32_t isa);
int32_t aii_x86_isa(void); /* the best of them */

extern const aii_kernels aii_kernels_avx2;
extern const aii_kernels aii_kernels_avxvnni;
extern const aii_kernels aii_kernels_avx512;
#endif

#endif
