#!/bin/bash
# Judges nano.gguf on held-out conversations and demands its gates: the last steps of README.md, for `make nano-eval`.
#
# eval.sh FOLDER    where the Python environment, the tokenizer and the held-out set are made, once
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-build/nano-eval}
if [ ! -r "$here/nano.gguf" ]; then
  echo "examples/nano/nano.gguf is not here: README.md beside it tells how to make it" >&2
  exit 1
fi
mkdir -p "$work"
python=$work/venv/bin/python
if ! "$python" -c 'import torch, tokenizers, gguf, numpy, jinja2' 2>/dev/null; then
  echo "installing torch, tokenizers, gguf, numpy and jinja2 into $work/venv"
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet torch tokenizers gguf numpy jinja2
fi
cd "$here"
case $work in /*) ;; *) work=$OLDPWD/$work python=$OLDPWD/$python ;; esac
export PYTHONDONTWRITEBYTECODE=1
if [ ! -s "$work/tokenizer.json" ]; then
  "$python" generate.py --count 20000 --seed 77 >"$work/conversations.jsonl"
  "$python" tokenizer.py "$work/conversations.jsonl" "$work/tokenizer.json"
fi
[ -s "$work/held-out.jsonl" ] || "$python" generate.py --eval 200 --seed 9 >"$work/held-out.jsonl"
"$python" evaluate.py --tokenizer "$work/tokenizer.json" --model nano.gguf --set "$work/held-out.jsonl" --gate
