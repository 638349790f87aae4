#!/bin/bash
# The program with --device: the CUDA plug-in whose kernels run on the CPU answers as the CPU does, to the bit, and what is
# missing is told.
set -u
build=${AIINFRA_BUILD:?} nano=${AIINFRA_ROOT:?}/examples/nano/nano.gguf
plugin=$build/libaiinfra-cuda-on-cpu.so
failures=0

if [ ! -e "$plugin" ]; then
  echo "skipped: the CUDA kernels run on the CPU of x86-64 alone"
  exit 77
fi

same() { # what, then arguments of the program
  local what=$1 cpu cuda
  shift
  cpu=$("$build/aiinfra" "$@" --device cpu 2>&1)
  cuda=$(AIINFRA_CUDA_PLUGIN=$plugin "$build/aiinfra" "$@" --device cuda 2>&1)
  if [ -z "$cpu" ] || [ "$cpu" != "$cuda" ]; then
    printf '%s differs:\n%s\n---\n%s\n' "$what" "$cpu" "$cuda"
    failures=$((failures + 1))
  fi
}

tells() { # text, device, what there is, plug-in
  local text=$1 message
  if message=$(AIINFRA_FAKE_CUDA=$3 AIINFRA_CUDA_PLUGIN=$4 "$build/aiinfra" logits "$nano" -p Hello --device "$2" 2>&1) ||
    [[ $message != *"$text"* ]]; then
    printf 'should tell "%s": %s\n' "$text" "$message"
    failures=$((failures + 1))
  fi
}

same 'a chat' run "$nano" --chat -p 'Hello' --greedy -n 20
same 'logits' logits "$nano" -p 'The default port of the server is 8080. Which port?' --all --top 0 --json
same 'logits over a cache of Q8_0' run "$nano" -p 'The default port' --greedy -n 12 --kv-type q8_0

tells 'build it with make cuda' cuda ok "$build/none.so"
tells 'no absolute path' cuda ok none.so
tells 'is no plug-in of libaiinfra' cuda ok "$(readlink -f "$build/libaiinfra.so")"
tells 'no CUDA-capable device' cuda none "$plugin"
tells 'driver version is insufficient' cuda old "$plugin"
tells 'CUDA device 1 of 1' cuda:1 ok "$plugin"
tells 'it may be cpu, auto, cuda' tpu ok "$plugin"
tells 'out of memory' cuda small "$plugin"
if ! AIINFRA_FAKE_CUDA=none AIINFRA_CUDA_PLUGIN=$plugin "$build/aiinfra" logits "$nano" -p Hello --device auto >/dev/null; then
  echo 'auto should be the CPU where there is no GPU'
  failures=$((failures + 1))
fi
exit $((failures > 0))
