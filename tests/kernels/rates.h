/* rates.h - the part of `test_kernels --bench` that measures the backend. */
#ifndef AII_TESTS_RATES_H
#define AII_TESTS_RATES_H

#include <stdint.h>

void test_backend_rates(uint32_t n_threads);

#endif
