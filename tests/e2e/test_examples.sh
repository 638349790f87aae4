#!/bin/bash
# Every example runs and says something: with the bundled model, or with stories260K where it is.
set -u
root=${AIINFRA_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${AIINFRA_BUILD:-$root/build}/examples
nano=$root/examples/nano/nano.gguf
model=$nano
[ -r "$model" ] || model=${AIINFRA_SHARED_DATA:-}/models/stories260K/stories260K.gguf
if [ ! -r "$model" ]; then
  echo "skipped: neither nano.gguf nor stories260K is here"
  exit 77
fi
out=$(mktemp)
trap 'rm -f "$out" "$out.err"' EXIT
failures=0

fail() {
  echo "FAILED $1: $2"
  sed 's/^/  /' "$out" "$out.err"
  failures=$((failures + 1))
}

# try NAME WANTED_EXIT WANTED_PATTERN ARGUMENT...
try() {
  local name=$1 wanted=$2 pattern=$3 code
  shift 3
  if [ ! -x "$build/$name" ]; then
    echo "skipped: $name is not built"
    return
  fi
  timeout 120 "$build/$name" "$@" >"$out" 2>"$out.err" </dev/null
  code=$?
  [ "$code" -eq "$wanted" ] || fail "$name" "exit code $code instead of $wanted"
  cat "$out" "$out.err" | grep -qE -- "$pattern" || fail "$name" "no '$pattern'"
}

if [ "$model" = "$nano" ]; then
  try generate 0 '[a-z]{2}' "$model"
  try hello 0 '[a-z]{2}' "$model"
else
  echo "skipped: generate and hello without a text need a chat template, which only nano.gguf has"
fi
try generate 0 '.' "$model" "The cat"
try own_loop 0 '[1-9][0-9]* tokens while the timer ticked [0-9]' "$model"
try embed_search 0 'cat sleeps' "$model"
for name in generate own_loop embed_search hello agent_tool serve; do
  try "$name" 2 "usage: $name MODEL"
  try "$name" 1 "$name: .*none.gguf" /none.gguf
done
if [ -r "$nano" ]; then
  try agent_tool 0 '[a-z]{2}' "$nano"
else
  echo "skipped: agent_tool needs nano.gguf"
fi

# The server ends with its standard input.
if [ -x "$build/serve" ]; then
  coproc SERVE { exec "$build/serve" "$model" 0 2>"$out.err"; }
  server=$SERVE_PID
  exec {input}>&"${SERVE[1]}"
  read -r -t 60 url <&"${SERVE[0]}"
  eval "exec ${SERVE[1]}>&-"
  python3 -c "import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + '/health', timeout=30)" "${url:-none}" ||
    fail serve "no answer at '${url:-}'"
  exec {input}>&-
  wait "$server" || fail serve "it did not end well"
fi
exit $((failures > 0))
