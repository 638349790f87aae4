#!/bin/bash
# The demonstration is right: every answer of `make demo` is checked by the demonstration itself.
set -u
root=${AIINFRA_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
if [ ! -r "$root/examples/nano/nano.gguf" ] && [ -z "${AIINFRA_MODEL:-}" ]; then
  echo "skipped: nano.gguf is not here"
  exit 77
fi
if [ ! -r "$root/docs/server.md" ]; then
  echo "skipped: docs/server.md is not here"
  exit 77
fi
exec bash "$root/examples/demo.sh" "${AIINFRA_BUILD:-$root/build}"
