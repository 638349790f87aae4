/* faults.h - between torture.c, which decides, and faults.c, which stands in for malloc and the system calls. */
#ifndef AIINFRA_TESTS_FAULTS_H
#define AIINFRA_TESTS_FAULTS_H

#include <stdbool.h>
#include <stddef.h>

/* Counts a fallible call of a source and says whether it fails. */
bool torture_should_fail(unsigned source);

/* Looks up where the libraries lie whose calls never fail. */
void torture_find_spared(void);

/* Blocks of malloc that live now, in the whole process. Always 0 under a sanitizer, which finds leaks itself. */
long torture_live_blocks(void);

/* The C library's own, never counted. */
void *torture_real_realloc(void *ptr, size_t size);
void torture_real_free(void *ptr);

#endif
