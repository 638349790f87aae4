#!/bin/bash
# What ptxas says of a file's kernels, one a line: registers, bytes spilled and in all on the stack,
# shared memory, name. For `make cuda-report`.
c++filt | awk -v file="$1" '
  /Compiling entry function/ { split($0, part, "\047"); name = part[2] }
  /bytes spill stores/ { for (i = 1; i <= NF; i++) {
    if ($i == "bytes" && $(i + 1) == "spill" && $(i + 2) ~ /stores/) spills = $(i - 1)
    if ($i == "bytes" && $(i + 1) == "stack") stack = $(i - 1) } }
  /Used [0-9]+ registers/ {
    shared = 0
    for (i = 1; i <= NF; i++) { if ($i == "Used") registers = $(i + 1); if ($i == "bytes" && $(i + 1) ~ /smem/) shared = $(i - 1) }
    printf "%4d registers %6d bytes spilled %6d on the stack %6d shared  %s: %s\n", registers, spills, stack, shared, file, name
  }'
