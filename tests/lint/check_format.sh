#!/bin/bash
# The layout of every C file is what clang-format makes of it; `make format` puts it right.
cd "$(dirname "$0")/../.." || exit 1
if ! command -v clang-format-14 >/dev/null; then
  echo "skipped: clang-format-14 is not installed; make lint installs it"
  exit 77
fi
if ! findings=$(tests/lint/c_files.sh | xargs clang-format-14 --dry-run --Werror 2>&1); then
  grep -o '^[^:]*:[0-9]*' <<<"$findings" | sed 's/$/: make format would change it/' | awk -F: '!seen[$1]++'
  exit 1
fi
echo ok
