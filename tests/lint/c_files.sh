#!/bin/sh
# Prints the C files that clang-format keeps in shape, for `make format` and the check. Not include/: a public header
# is laid out by hand, its comments are tables.
cd "$(dirname "$0")/../.." || exit 1
find lib src kernels examples tests \( -name '*.[ch]' -o -name '*.cc' -o -name '*.cu' \) 2>/dev/null | sort
