#!/bin/bash
# One model in several processes: what two and four ranks of mpirun answer is what one process answers.
set -u
build=${AIINFRA_BUILD:?} nano=${AIINFRA_ROOT:?}/examples/nano/nano.gguf
failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! command -v mpirun >/dev/null || [ ! -e "$build/libaiinfra-mpi.so" ]; then
  echo 'skipped: MPI is not installed'
  exit 77
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl=self,vader OMPI_MCA_mpi_yield_when_idle=1

ranks() { # how many, arguments of the program
  local n=$1
  shift
  timeout 120 mpirun -n "$n" "$build/aiinfra" "$@" --ranks mpi --threads 1
}

expect() { # what, wanted, got
  [ -n "$2" ] && [ "$2" = "$3" ] && return
  printf '%s: should be\n%s\nbut is\n%s\n' "$1" "$2" "$3"
  failures=$((failures + 1))
}

# In F32: with quantised weights, activations are rounded, and a last bit may turn a rounding over.
exact=$work/nano-f32.gguf
"$build/aiinfra" convert "$nano" "$exact" --type F32 >/dev/null || exit 1
text='The default port of the server is 8080. Which port is it?'
"$build/aiinfra" logits "$exact" -p "$text" --all --top 0 --json >"$work/one"
for n in 2 4; do
  ranks $n logits "$exact" -p "$text" --all --top 0 --json >"$work/many"
  python3 - "$work/one" "$work/many" <<'END' || { echo "logits of $n ranks differ"; failures=$((failures + 1)); }
import json, sys
one, many = (json.load(open(path)) for path in sys.argv[1:])
assert len(one) == len(many) > 5
for a, b in zip(one, many):
    x, y = ({t["id"]: t["logit"] for t in position["top"]} for position in (a, b))
    assert x.keys() == y.keys() and len(x) > 1000
    square = sum(v * v for v in x.values())
    assert sum((x[t] - y[t]) ** 2 for t in x) <= 1e-10 * square
END
done
expect 'a chat' "$("$build/aiinfra" run "$nano" --chat -p Hello --greedy -n 20)" "$(ranks 2 run "$nano" --chat -p Hello --greedy -n 20)"
expect 'several sequences' 3 "$(ranks 2 bench "$nano" --pp 40 --tg 8 -s 3 -r 1 --json | grep -o '"sequences":3' | grep -o 3 | head -n 1)"

# Two GPUs, whose kernels run on the CPU: the bits of two ranks on CPUs.
if [ -e "$build/nccl-on-cpu/libnccl.so.2" ]; then
  gpus() { # as ranks
    AIINFRA_CUDA_PLUGIN=$build/libaiinfra-cuda-on-cpu.so LD_LIBRARY_PATH=$nccl ranks "$@"
  }
  nccl=$build/nccl-on-cpu
  export AIINFRA_FAKE_CUDA=two
  ranks 2 logits "$nano" -p "$text" --all --top 0 --json >"$work/cpus"
  gpus 2 logits "$nano" -p "$text" --all --top 0 --json --device cuda >"$work/gpus"
  [ -s "$work/cpus" ] && cmp "$work/cpus" "$work/gpus" || { echo 'logits of two GPUs differ'; failures=$((failures + 1)); }
  expect 'a chat of two GPUs' "$(ranks 2 run "$nano" --chat -p Hello --greedy -n 20)" "$(gpus 2 run "$nano" --chat -p Hello --greedy -n 20 --device cuda)"
  refused=$(gpus 4 run "$nano" -p Hello --device cuda 2>&1)
  case $refused in *'CUDA device 3 of 2'*) ;; *) expect 'four ranks on two GPUs' 'a refusal' "$refused" ;; esac
  refused=$(gpus 4 run "$nano" -p Hello --device auto 2>&1)
  case $refused in *'2 of 4 ranks found a GPU'*) ;; *) expect 'four ranks that may use two GPUs' 'a refusal' "$refused" ;; esac
  nccl=$work
  echo 'no library' >"$work/libnccl.so.2"
  refused=$(gpus 2 run "$nano" -p Hello --device cuda 2>&1)
  case $refused in *'several GPUs need NCCL 2'*) ;; *) expect 'no NCCL' 'a refusal' "$refused" ;; esac
fi

refused=$(ranks 3 run "$nano" -p Hello 2>&1)
case $refused in *'4 is no multiple of 3 ranks'*) ;; *) expect 'three ranks' 'a refusal' "$refused" ;; esac
refused=$(ranks 2 run "$build/none.gguf" -p Hello 2>&1)
case $refused in *'No such file'*) ;; *) expect 'no model' 'a refusal' "$refused" ;; esac
refused=$(AIINFRA_MPI_PLUGIN=$build/none.so "$build/aiinfra" run "$nano" -p Hello --ranks mpi 2>&1)
case $refused in *'build it with make mpi'*) ;; *) expect 'no plug-in' 'a refusal' "$refused" ;; esac
exit $((failures > 0))
