/* kernels/x86/x86.h - the tables for x86-64, and what the CPU and the system can run. */
#ifndef AII_KERNELS_X86_H
#define AII_KERNELS_X86_H

#include "kernels/kernels.h"

#if defined(__x86_64__)
/* The best aiinfra_isa: the CPU has the instructions and the system saves the registers. Thread: any. */
int32_t aii_x86_isa(void);

extern const aii_kernels aii_kernels_avx2;
extern const aii_kernels aii_kernels_avx512;
#endif

#endif
