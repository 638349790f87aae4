#!/bin/bash
# Installs the peers of `make bench-vector` and prints the Python that has them: vector_peers.sh BUILD
#
# hnswlib is compiled for this machine's CPU, faiss and usearch choose at run time. VECTOR_PYTHON=/path/python uses a
# Python that has all of them.
set -euo pipefail
if [ -n "${VECTOR_PYTHON:-}" ]; then
  echo "$VECTOR_PYTHON"
  exit
fi
requirements=$(dirname "$0")/../bench/vector/requirements.txt
mkdir -p "$1/peer"
venv=$(cd "$1/peer" && pwd)/vector-venv
if ! cmp -s "$requirements" "$venv/made-of.txt"; then
  echo "installing hnswlib, faiss and usearch, for the first time only (log: $venv.log)" >&2
  python3 -m venv "$venv"
  if ! "$venv/bin/pip" install -r "$requirements" >"$venv.log" 2>&1; then
    tail -n 20 "$venv.log" >&2
    exit 1
  fi
  cp "$requirements" "$venv/made-of.txt"
fi
echo "$venv/bin/python"
