#!/bin/bash
# Runs every check of this folder, for `make lint`; ctest registers the same checks one by one.
cd "$(dirname "$0")" || exit 1
failed=()
for check in check_*; do
  echo "== ${check%.*}"
  case $check in
    *.py) python3 "$check" ;;
    *) bash "$check" ;;
  esac
  code=$?
  [ $code = 0 ] || [ $code = 77 ] || failed+=("${check%.*}")
done
[ ${#failed[@]} = 0 ] && echo "lint: clean" && exit 0
echo "lint: ${failed[*]} failed"
exit 1
