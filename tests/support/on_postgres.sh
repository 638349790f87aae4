#!/bin/bash
# Runs test programs, whose databases are files otherwise, with schemas of a PostgreSQL server instead.
#
# on_postgres.sh PROGRAM...
set -u
here=$(dirname "$0")
if [ ! -e "${AIINFRA_BUILD:-build}/libaiinfra-postgres.so" ]; then
  echo 'skipped: the plug-in for PostgreSQL was not built'
  exit 77
fi
folder=$(mktemp -d /tmp/aiinfra-pg-XXXXXX)
trap '"$here/postgres.sh" stop "$folder"; rm -rf "$folder"' EXIT
uri=$("$here/postgres.sh" start "$folder" $$)
code=$?
if [ $code = 77 ]; then echo "skipped: $uri"; exit 77; fi
[ $code = 0 ] || { echo "the server does not start: $uri"; cat "$folder/log"; exit 1; }
failed=()
for program; do
  echo "== $program"
  AIINFRA_TEST_POSTGRES=$uri "$program" || failed+=("$program")
done
[ ${#failed[@]} = 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
