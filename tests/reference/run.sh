#!/bin/bash
# Compares every architecture with Hugging Face transformers and writes the errors to docs/models.md, for `make reference`.
#
# run.sh BUILD   with CC, CFLAGS and LIBS in the environment; BUILD/libaiinfra.a is there.
# REFERENCE_PYTHON=/path/python uses a Python that has what requirements.txt asks for; else BUILD/reference/venv is made.
# REFERENCE_CASES="llama gpt2" makes only these models again. GOLDEN=1 writes tests/data/architectures/ too.
set -euo pipefail
build=$1
here=$(dirname "$0")
out=$build/reference/models
docs=$here/../../docs/models.md
python=${REFERENCE_PYTHON:-}

if [ -z "$python" ]; then
  venv=$build/reference/venv
  python=$venv/bin/python
  if ! cmp -s "$here/requirements.txt" "$venv/made-of.txt"; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/made-of.txt"
  fi
fi

mkdir -p "$out"
golden=""
[ -z "${GOLDEN:-}" ] || golden=$here/../data/architectures
# shellcheck disable=SC2086
PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "$python" "$here/models.py" "$out" "$golden" ${REFERENCE_CASES:-}
# shellcheck disable=SC2086
$CC $CFLAGS "$here/compare.c" "$here/../support/support.c" "$build/libaiinfra.a" $LIBS -lcmocka -o "$build/reference/compare"
"$build/reference/compare" "$out" | tee "$build/reference/table.md"

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
