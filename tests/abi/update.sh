#!/bin/bash
# Accepts the ABI of the headers and of the library just built: the golden layout and abidiff's dump.
set -e
cd "$(dirname "$0")/../.."
python3 tests/abi/check_layout.py --update
abidw --headers-dir include --exported-interfaces-only --no-comp-dir-path --short-locs --no-corpus-path --no-write-default-sizes \
  --out-file tests/abi/libaiinfra.abi "$AIINFRA_BUILD/libaiinfra.so"
echo "tests/abi/libaiinfra.abi: $(wc -c <tests/abi/libaiinfra.abi) bytes"
