#!/bin/bash
# Checks and measures the CUDA backend on the machine it runs on. `make gpu-bundle` puts it beside all that it needs.
#
# run.sh [SHAPE...]   shapes of tests/bench/cpu/shapes.py (llama-3.2-1b); TYPES="Q4_0 Q8_0 BF16" by default
#
# Without a GPU it checks that asking for one fails with the reason, says so, and ends with 0. With one:
#   1. every operation and every architecture beside the CPU's, to the bit, and the tokens that are chosen; less of it under
#      compute-sanitizer too, where that is installed
#   2. the bundled model's answers and logits on both, which must be the same bytes; a thousand requests at once, also in a
#      cache too small for them
#   3. reading and generating, in tokens a second, on synthetic models
set -u
here=$(cd "$(dirname "$0")" && pwd)
export LD_LIBRARY_PATH=$here/lib AIINFRA_BUILD=$here AIINFRA_ROOT=$here AIINFRA_CUDA_PLUGIN=$here/lib/libaiinfra-cuda.so
cd "$here" || exit 1
failures=0

check() { # what, command...
  local what=$1
  shift
  if "$@" >check.log 2>&1; then
    echo "ok      $what"
  else
    echo "FAILED  $what"
    tail -n 20 check.log
    failures=$((failures + 1))
  fi
}

same() { # what, arguments of the program
  local what=$1
  shift
  ./aiinfra "$@" --device cpu >cpu.out 2>&1
  ./aiinfra "$@" --device cuda >cuda.out 2>&1
  check "$what" cmp cpu.out cuda.out
}

answer=$(./aiinfra logits examples/nano/nano.gguf -p Hello --device cuda --top 1 2>&1)
if [ $? != 0 ]; then
  case $answer in
    *'no CUDA device'* | *'compute capability'*) echo "no GPU to test on; the program says: $answer" && exit 0 ;;
    *) echo "FAILED  a machine without a GPU should be told so: $answer" && exit 1 ;;
  esac
fi

nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null
for test in ops products attention shortlist architectures; do
  check "$test" "./gpu.cuda_$test"
  command -v compute-sanitizer >/dev/null || continue
  check "$test under memcheck" env AIINFRA_THOROUGH=0 compute-sanitizer --tool memcheck --error-exitcode 9 "./gpu.cuda_$test"
  check "$test under racecheck" env AIINFRA_THOROUGH=0 compute-sanitizer --tool racecheck --error-exitcode 9 "./gpu.cuda_$test"
done
if ! command -v compute-sanitizer >/dev/null; then
  echo 'skipped: compute-sanitizer is not installed'
fi
check 'many requests' ./gpu.cuda_batch
same 'a chat' run examples/nano/nano.gguf --chat -p Hello --greedy -n 40
same 'logits' logits examples/nano/nano.gguf -p 'The default port of the server is 8080. Which port is it?' --all --top 0 --json
same 'a cache of Q8_0' run examples/nano/nano.gguf -p 'The default port' --greedy -n 40 --kv-type q8_0

for shape in "${@:-llama-3.2-1b}"; do
  for type in ${TYPES:-Q4_0 Q8_0 BF16}; do
    path=$(python3 -c "import shapes; print(shapes.make(shapes.SHAPES['$shape'], '$type', '.'))") || continue
    for test in '--pp 512 --tg 0' '--pp 0 --tg 128' '--pp 0 --tg 128 -s 16'; do
      # shellcheck disable=SC2086
      speed=$(./aiinfra bench "$path" --device cuda --json -r 3 $test | sed 's/.*"tokens_per_second":\([0-9.]*\).*/\1/')
      printf '%-14s %-6s %-24s %12s tokens/s\n' "$shape" "$type" "$test" "$speed"
    done
    rm -f "$path"
  done
done
exit $((failures > 0))
