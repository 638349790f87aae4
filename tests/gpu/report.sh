#!/bin/bash
# What became of the kernels of a file, for `make cuda-report`: report.sh FILE CUBIN, with what ptxas said on the standard
# input. For each kernel, one a line: registers, bytes spilled and in all on the stack, shared memory, name. Then, where
# cuobjdump is installed, how often the machine code of the file has the instructions that its speed depends on.
set -u
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
command -v cuobjdump >/dev/null || exit 0
cuobjdump -sass "$2" | awk -v file="$1" '
  /Function :/ { kernels++ }
  /HMMA/ { halves++ }  /IMMA/ { integers++ }  /LDGSTS/ { async++ }  /IDP/ { dots++ }  /STL|LDL/ { local++ }
  /PREEXIT/ { lets++ }  /ACQBULK/ { waits++ }
  END { printf "%d kernels: %d HMMA %d IMMA %d IDP %d LDGSTS %d STL and LDL %d PREEXIT %d ACQBULK  %s\n",
    kernels, halves, integers, dots, async, local, lets, waits, file }'
