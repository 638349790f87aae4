#!/bin/bash
# Builds llama.cpp for this machine's CPU and prints the Python that has it: peer.sh BUILD [avx2]
#
# It is the reference of quantised models and the peer in benchmarks. The package llama-cpp-python carries the whole of
# llama.cpp; its shared libraries have the C API. PEER_PYTHON=/path/python uses a Python that has it already. With avx2 it
# is built, in a folder of its own, for a CPU that has AVX2, FMA and F16C and nothing newer.
set -euo pipefail
if [ -n "${PEER_PYTHON:-}" ]; then
  echo "$PEER_PYTHON"
  exit
fi
isa=${2:-}
case $isa in
  "") cpu="-DGGML_NATIVE=ON" ;;
  avx2) cpu="-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX_VNNI=OFF -DGGML_AVX512=OFF" ;;
  *)
    echo "peer.sh: llama.cpp is built for this machine's CPU, or for avx2; not for '$isa'" >&2
    exit 1
    ;;
esac
# gcc before 13 believes that loading the configuration of AMX's registers reads 8 bytes of it, and leaves the others
# unwritten: llama.cpp dies of its first prompt then. clang does not.
if [ -z "$isa" ] && grep -qw amx_int8 /proc/cpuinfo && [ "$(gcc -dumpversion | cut -d. -f1)" -lt 13 ] && command -v clang++ >/dev/null; then
  export CC=clang CXX=clang++
fi
requirements=$(dirname "$0")/../reference/requirements-llama.txt
mkdir -p "$1/peer${isa:+-$isa}"
venv=$(cd "$1/peer${isa:+-$isa}" && pwd)/venv
if ! cmp -s "$requirements" "$venv/made-of.txt"; then
  echo "building llama.cpp from source, for the first time only; this takes a while (log: $venv.log)" >&2
  python3 -m venv "$venv"
  export CMAKE_ARGS="$cpu -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF"
  export CMAKE_BUILD_PARALLEL_LEVEL=${JOBS:-$(nproc)}
  # pip keeps what it has built, whatever it was built for
  if ! "$venv/bin/pip" install --no-cache-dir --verbose --no-binary llama-cpp-python -r "$requirements" >"$venv.log" 2>&1; then
    tail -n 20 "$venv.log" >&2
    exit 1
  fi
  cp "$requirements" "$venv/made-of.txt"
fi
echo "$venv/bin/python"
