#!/bin/bash
# Puts what tests/gpu/run.sh needs into BUILD/gpu-bundle, for `make gpu-bundle`: the program, the plug-in, the tests, the
# bundled model, the descriptions of small ones, the maker of synthetic models, and the shared libraries that a bare machine
# may lack.
#
# bundle.sh BUILD
set -eu
build=$1
bundle=$build/gpu-bundle
limit=$((60 << 20))

[ -e "$build/libaiinfra-cuda.so" ] || { echo 'no plug-in: make cuda needs nvcc' >&2; exit 1; }
rm -rf "$bundle"
mkdir -p "$bundle/lib" "$bundle/tests/data" "$bundle/examples/nano"
cp -L "$build/aiinfra" "$build"/tests/gpu/gpu.cuda_* "$bundle/"
cp -L "$build/libaiinfra-cuda.so" "$build/libaiinfra.so.0" "$bundle/lib/"
cp tests/gpu/run.sh tests/bench/cpu/shapes.py "$bundle/"
cp "$build/gpu.roof" tests/gpu/measure.py tests/gpu/figures.py tests/gpu/torch_peer.py "$bundle/"
cp examples/nano/nano.gguf "$bundle/examples/nano/"
cp -r tests/data/architectures tests/data/encoders "$bundle/tests/data/"
for program in "$bundle/aiinfra" "$bundle"/gpu.cuda_*; do
  LD_LIBRARY_PATH=$bundle/lib ldd "$program" | awk '$3 ~ /^\// { print $3 }'
done | sort -u | grep -vE '/(libc|libm|libdl|libpthread|librt|ld-linux[^/]*)\.so' | while read -r file; do
  [ -e "$bundle/lib/$(basename "$file")" ] || cp -L "$file" "$bundle/lib/"
done
strip --strip-debug "$bundle"/aiinfra "$bundle"/gpu.cuda_* "$bundle"/lib/*
size=$(du -sb "$bundle" | cut -f1)
echo "$bundle: $size bytes"
[ "$size" -lt "$limit" ] || { echo "more than $limit bytes" >&2; exit 1; }
