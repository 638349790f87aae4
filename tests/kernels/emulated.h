/* emulated.h - the AVX-512 kernels run by emulation (SIMDe over AVX2), to check their arithmetic on CPUs without. */
#ifndef AII_TESTS_EMULATED_H
#define AII_TESTS_EMULATED_H

#include "kernels/kernels.h"

/* NULL: this build or CPU cannot. */
const aii_kernels *test_emulated_avx512(void);

#endif
