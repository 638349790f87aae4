#!/bin/bash
# Builds every tests/fuzz/*_fuzz.c with libFuzzer and runs each for a while, for `make fuzz`.
#
# run.sh BUILD SECONDS [REGEX]   with CC, CFLAGS and LIBS in the environment
# New inputs go to BUILD/corpus/NAME, what crashed to BUILD/crashes/. To keep an input, add it to corpus/NAME/.
set -u
build=$1 seconds=$2 match=${3:-}
here=$(dirname "$0")
failed=()
count=0
mkdir -p "$build/crashes"

for source in "$here"/*_fuzz.c; do
  [ -e "$source" ] || continue
  name=$(basename "$source" _fuzz.c)
  [[ -z $match || fuzz.$name =~ $match ]] || continue
  count=$((count + 1))
  echo "== fuzz $name, $seconds s"
  # shellcheck disable=SC2086
  $CC $CFLAGS -fsanitize=fuzzer "$source" "$build/libaiinfra.a" $LIBS -o "$build/$name" || { failed+=("$name"); continue; }
  corpus=("$build/corpus/$name")
  [ -d "$here/corpus/$name" ] && corpus+=("$here/corpus/$name")
  [ -f "$here/$name.dict" ] && dict=("-dict=$here/$name.dict") || dict=()
  mkdir -p "${corpus[0]}"
  ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
    "$build/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3072 -print_final_stats=1 \
    -artifact_prefix="$build/crashes/$name-" "${dict[@]}" "${corpus[@]}" >"$build/$name.log" 2>&1
  if [ $? -ne 0 ]; then
    tail -n 60 "$build/$name.log"
    failed+=("$name")
  else
    grep -E 'number_of_executed_units|new_units_added' "$build/$name.log" || true
  fi
done

echo "$count fuzz targets, ${#failed[@]} failed: ${failed[*]:-none}"
[ ${#failed[@]} -eq 0 ]
