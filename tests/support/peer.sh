#!/bin/bash
# Builds llama.cpp for this machine's CPU and prints the Python that has it: peer.sh BUILD
#
# It is the reference of quantised models and the peer in benchmarks. The package llama-cpp-python carries the whole of
# llama.cpp; its shared libraries have the C API. PEER_PYTHON=/path/python uses a Python that has it already.
set -euo pipefail
if [ -n "${PEER_PYTHON:-}" ]; then
  echo "$PEER_PYTHON"
  exit
fi
requirements=$(dirname "$0")/../reference/requirements-llama.txt
mkdir -p "$1/peer"
venv=$(cd "$1/peer" && pwd)/venv
if ! cmp -s "$requirements" "$venv/made-of.txt"; then
  echo "building llama.cpp from source, for the first time only; this takes a while (log: $venv.log)" >&2
  python3 -m venv "$venv"
  export CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF"
  export CMAKE_BUILD_PARALLEL_LEVEL=${JOBS:-$(nproc)}
  if ! "$venv/bin/pip" install --verbose --no-binary llama-cpp-python -r "$requirements" >"$venv.log" 2>&1; then
    tail -n 20 "$venv.log" >&2
    exit 1
  fi
  cp "$requirements" "$venv/made-of.txt"
fi
echo "$venv/bin/python"
