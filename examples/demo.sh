#!/bin/bash
# demo.sh - an agent on this machine, with nothing but one file: documents, tools, memory, streaming. `make demo` runs it.
#
#   demo.sh [BUILD]      needs BUILD/aiinfra (build/ when not given) and the bundled model, or AIINFRA_MODEL
#
# Every answer is checked; the exit code says whether all were right.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build}
build=$(cd "$build" && pwd) || exit 1
aiinfra=$build/aiinfra
db=$build/demo.db
log=$(mktemp)
failures=0
trap 'rm -f "$log" "$log.one" "$log.answer"' EXIT
bold='' green='' red='' dim='' plain=''
if [ -t 1 ]; then
  bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'
fi

title() {
  printf '\n%s%s%s\n' "$bold" "$1" "$plain"
}

wrong() {
  printf '    %swrong:%s %s\n' "$red" "$plain" "$1"
  failures=$((failures + 1))
}

# ask EXPECTED QUESTION: a process of its own for every question; the answer is shown as it streams.
ask() {
  local expected=$1 question=$2
  printf '  > %s\n  ' "$question"
  "$aiinfra" agent --db "$db" --quote "$question" 2>"$log.one" | tee "$log.answer"
  printf '%s' "$dim"
  sed 's/^/    /' "$log.one"
  printf '%s' "$plain"
  cat "$log.one" >>"$log"
  if grep -qF -- "$expected" "$log.answer"; then
    printf '    %sok%s\n' "$green" "$plain"
  else
    wrong "'$expected' is not in the answer"
  fi
}

rm -f "$db" "$db-wal" "$db-shm"
title "1. Documents go into one file"
(cd "$root" && "$aiinfra" ingest --db "$db" docs) >"$log.one" || exit 1
sed 's/^/  /' "$log.one"

title "2. An answer from the documents, with its source"
ask "8080" "Which port does the server listen on by default?"
grep -q 'docs/server.md, bytes' "$log" || wrong "docs/server.md is not cited"

title "3. A tool computes what a model cannot"
ask "391" "What is 17 * 23?"
grep -q '^\[calculator: 391\]' "$log" || wrong "the calculator was not asked"

title "4. A fact told to one process is known to the next"
ask "I will remember that." "My cat is called Miso."
ask "Miso" "What is my cat called?"

title "5. Tokens stream as they are generated"
tokens=$("$aiinfra" agent --db "$db" --events "What is my cat called?" 2>/dev/null | grep -c '"type":"token"')
printf '  %s token events\n' "$tokens"
[ "$tokens" -gt 1 ] || wrong "the answer did not stream"

title "Summary"
awk '
  /^run [0-9]+:/ {
    for (i = 1; i < NF; i++) {
      if ($i == "prompt") prompt += $(i + 1)
      if ($i == "generated") generated += $(i + 1)
      if ($(i + 1) == "of" && $(i + 3) == "cached;") cached += $i
      if ($(i + 1) == "tokens/s") { speed += $i; n++ }
    }
  }
  /^recall [0-9.]+ ms/ {
    recall += $2; queue += $5; prefill += $8; decode += $11; tools += $14; journal += $17; total += $20
  }
  END {
    printf "  %d tokens read, %d of them from the cache; %d generated", prompt, cached, generated
    if (n) printf ", %.0f tokens/s", speed / n
    printf "\n  recall %.1f ms, queue %.1f ms, prefill %.1f ms, decode %.1f ms, tools %.1f ms, journal %.1f ms, ",
           recall, queue, prefill, decode, tools, journal
    printf "total %.1f ms\n", total
  }' "$log"
printf '  everything is in one file of %s bytes: %s\n' "$(stat -c %s "$db")" "${db#"$PWD"/}"
if [ "$failures" -gt 0 ]; then
  printf '  %s%d checks failed%s\n' "$red" "$failures" "$plain"
  exit 1
fi
printf '  %severy answer is right%s\n' "$green" "$plain"
