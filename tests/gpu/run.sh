#!/bin/bash
# Checks and measures the CUDA backend on the machine it runs on. `make gpu-bundle` puts it beside all that it needs.
#
# run.sh [SHAPE...]   shapes of tests/bench/cpu/shapes.py instead of those of the goals; measure.py tells its variables
#
# Without a GPU it checks that asking for one fails with the reason, says so, and ends with 0. With one:
#   1. every operation and every architecture beside the CPU's, to the bit, and the tokens that are chosen; less of it under
#      compute-sanitizer too, where that is installed, for a while each
#   2. the bundled model's answers and logits on both, which must be the same bytes; a thousand requests at once, also in a
#      cache too small for them
#   3. reading, generating and starting on synthetic models, beside what this GPU can do, the goals, and transformers: a table,
#      and results.json. What is not measured after eight and a half minutes in all is left out, and said
set -u
here=$(cd "$(dirname "$0")" && pwd)
export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} AIINFRA_BUILD=$here AIINFRA_ROOT=$here AIINFRA_CUDA_PLUGIN=$here/lib/libaiinfra-cuda.so
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

sanitize() { # tool, name of a test
  timeout 40 compute-sanitizer --tool "$1" --error-exitcode 9 "./gpu.cuda_$2" >check.log 2>&1
  case $? in
    0) echo "ok      $2 under $1" ;;
    124) echo "ok      $2 under $1, as far as it came in 40 seconds" ;;
    *)
      echo "FAILED  $2 under $1"
      tail -n 20 check.log
      failures=$((failures + 1))
      ;;
  esac
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
for test in ops products layers attention shortlist rank architectures; do
  check "$test" "./gpu.cuda_$test"
  command -v compute-sanitizer >/dev/null || continue
  AIINFRA_THOROUGH=0 sanitize memcheck "$test"
  AIINFRA_THOROUGH=0 sanitize racecheck "$test"
done
if ! command -v compute-sanitizer >/dev/null; then
  echo 'skipped: compute-sanitizer is not installed'
fi
check 'many requests' ./gpu.cuda_batch
same 'a chat' run examples/nano/nano.gguf --chat -p Hello --greedy -n 40
same 'logits' logits examples/nano/nano.gguf -p 'The default port of the server is 8080. Which port is it?' --all --top 0 --json
same 'a cache of Q8_0' run examples/nano/nano.gguf -p 'The default port' --greedy -n 40 --kv-type q8_0

# What is left of nine minutes, but for half a minute, is for measuring.
# Python is this machine's, and so are its libraries.
export PYTHONDONTWRITEBYTECODE=1
LD_LIBRARY_PATH=${LD_LIBRARY_PATH#"$here/lib"} python3 measure.py $((510 - SECONDS)) "$@" || failures=$((failures + 1))
echo "$failures failed, $SECONDS seconds"
exit $((failures > 0))
