#!/bin/bash
# Judges nano.gguf on held-out conversations through the library's own engine: the last step of README.md, for
# `make nano-eval`. Ends with 1 when a kind of conversation misses its goal.
#
# eval.sh BUILD [--show N]    BUILD holds examples/nano_eval; the held-out set is made there
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${1:-build}
[ $# -gt 0 ] && shift
model=${AIINFRA_MODEL:-$here/nano.gguf}
if [ ! -r "$model" ]; then
  echo "$model is not here: $here/README.md tells how to make it" >&2
  exit 1
fi
PYTHONDONTWRITEBYTECODE=1 python3 "$here/generate.py" --eval 1000 --seed 9 >"$build/nano-held-out.jsonl"
exec "$build/examples/nano_eval" "$model" "$build/nano-held-out.jsonl" "$@"
