#!/bin/bash
# Runs the ABI gates, for `make abi-check`: the checks that ctest registers too, then abidiff against the dump.
cd "$(dirname "$0")" || exit 1
library=$(realpath -m "../../${AIINFRA_BUILD:-build}")/libaiinfra.so
[ "${AIINFRA_BUILD#/}" = "$AIINFRA_BUILD" ] || library=$AIINFRA_BUILD/libaiinfra.so
failed=()
for check in check_*.py; do
  echo "== ${check%.py}"
  AIINFRA_BUILD=$(dirname "$library") python3 "$check" || failed+=("${check%.py}")
done

echo "== abidiff"
if [ ! -f libaiinfra.abi ]; then
  echo "tests/abi/libaiinfra.abi does not exist yet: make abi-update writes it"
elif ! command -v abidiff >/dev/null; then
  echo "skipped: abigail-tools is not installed"
else
  abidiff --headers-dir2 ../../include libaiinfra.abi "$library"
  # Bit 3 tells an incompatible change, bit 2 any change: functions may be added, nothing else may happen.
  code=$?
  [ $((code & 8)) = 0 ] && [ $((code & 1)) = 0 ] || failed+=(abidiff)
  [ $code = 0 ] && echo "no change"
fi

[ ${#failed[@]} = 0 ] && echo "abi: as promised" && exit 0
echo "abi: ${failed[*]} failed"
exit 1
