#!/bin/bash
# Compares the library with other implementations, for `make reference`. The parts:
#   models       every architecture with Hugging Face transformers; writes the errors to docs/models.md
#   formats      folders that transformers wrote, opened and converted
#   tokenizers   with the package tokenizers, on random and hostile strings
#   templates    chat templates with jinja2
#   quants       every stored type with the package gguf, to the bit
#   llama        every type with llama.cpp, on the same files
#
# run.sh BUILD [REGEX]   the parts whose names match; CC, CFLAGS and LIBS are in the environment, BUILD is built.
# REFERENCE_PYTHON=/path/python uses a Python that has what requirements.txt asks for; else BUILD/reference/venv is made.
# PEER_PYTHON does the same for llama.cpp, which tests/support/peer.sh builds else.
# REFERENCE_CASES="llama gpt2" takes only these models. GOLDEN=1 writes tests/data/architectures/ too.
set -euo pipefail
build=$1
regex=${2:-}
here=$(dirname "$0")
python=${REFERENCE_PYTHON:-$build/reference/venv/bin/python}
export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
read -ra cases <<<"${REFERENCE_CASES:-}"

# torch without CUDA is a tenth of the size, but only its own index has it; where that is out of reach, PyPI's does.
make_venv() {
  local venv=$build/reference/venv torch
  cmp -s "$here/requirements.txt" "$venv/made-of.txt" && return
  torch=$(grep '^torch==' "$here/requirements.txt")
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --retries 1 --index-url https://download.pytorch.org/whl/cpu "$torch" 2>/dev/null ||
    echo "reference: no CPU wheel of torch is in reach; taking the one of PyPI" >&2
  "$venv/bin/pip" install --quiet -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/made-of.txt"
}

# tool NAME SOURCE: compiles a program of the tests to BUILD/reference/NAME.
tool() {
  # shellcheck disable=SC2086
  $CC $CFLAGS "$2" "$here/../support/support.c" "$build/libaiinfra.a" $LIBS -lcmocka -o "$build/reference/$1"
}

models() {
  local docs=$here/../../docs/models.md out=$build/reference/models golden="" begin end type
  [ -z "${GOLDEN:-}" ] || golden=$here/../data/architectures
  mkdir -p "$out"
  "$python" "$here/models.py" "$out" "$golden" "${cases[@]}"
  tool compare "$here/compare.c"
  "$build/reference/compare" "$out" | tee "$build/reference/table.md"
  for type in f32 f16 bf16; do
    "$python" "$here/encoders.py" "$build/reference/encoders/$type" "$type" >/dev/null
  done
  tool compare_encoders "$here/compare_encoders.c"
  "$build/reference/compare_encoders" "$build/reference/encoders" | tee -a "$build/reference/table.md"
  begin=$(grep -n '<!-- errors: begin' "$docs" | cut -d: -f1)
  end=$(grep -n '<!-- errors: end' "$docs" | cut -d: -f1)
  {
    head -n "$begin" "$docs"
    echo
    cat "$build/reference/table.md"
    echo
    tail -n "+$end" "$docs"
  } >"$build/reference/models.md"
  cmp -s "$build/reference/models.md" "$docs" || cp "$build/reference/models.md" "$docs"
}

formats() {
  "$python" "$here/formats.py" "$build/reference/formats" "$build/aiinfra" "${cases[@]}"
}

tokenizers() {
  tool tokenize_tool "$here/tokenize_tool.c"
  "$python" "$here/tokenizers_diff.py" --tool "$build/reference/tokenize_tool"
}

templates() {
  "$python" "$here/templates_diff.py" --build "$build"
}

quants() {
  tool quantize "$here/../unit/test_quantize.c"
  "$python" "$here/quants.py" "$build/reference/quantize"
}

llama() {
  local peer
  peer=$("$here/../support/peer.sh" "$build")
  "$python" "$here/wide.py" "$build/reference/wide" "${cases[@]}"
  "$peer" "$here/llama_cpp.py" "$build" "${cases[@]}"
}

mkdir -p "$build/reference"
[ -n "${REFERENCE_PYTHON:-}" ] || make_venv
for part in models formats tokenizers templates quants llama; do
  [[ $part =~ $regex ]] || continue
  echo "== $part"
  $part
done
