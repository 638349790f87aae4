#!/bin/bash
# What `make install` leaves is enough: C through pkg-config, C++ through pkg-config, CMake through find_package,
# each compiled against the installed tree alone and run; then `make uninstall` leaves nothing.
set -eu
root=${AIINFRA_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${AIINFRA_BUILD:-$root/build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
version=$(sed -n 's/^.define AIINFRA_VERSION_STRING "\(.*\)"/\1/p' "$root/include/aiinfra/types.h")

# The settings of the make that runs us, without its job server.
case "${MAKEFLAGS:-}" in
  *"-- "*) export MAKEFLAGS="-- ${MAKEFLAGS#*-- }" ;;
  *) unset MAKEFLAGS ;;
esac
unset MAKELEVEL MFLAGS
make -C "$root" --no-print-directory BUILD="$build" PREFIX="$prefix" DESTDIR= install

cat >"$work/program.c" <<'END'
#include <aiinfra.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
  puts(aiinfra_version());
  return strcmp(aiinfra_version(), AIINFRA_VERSION_STRING) != 0;
}
END
cp "$work/program.c" "$work/program.cc"
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib
cd "$work"

echo "== C, pkg-config"
# shellcheck disable=SC2046
gcc -std=c99 -Wall -Wextra -pedantic -Werror program.c $(pkg-config --cflags --libs aiinfra) -o c
[ "$(./c)" = "$version" ]

echo "== C++, pkg-config"
# shellcheck disable=SC2046
g++ -std=c++11 -Wall -Wextra -pedantic -Werror program.cc $(pkg-config --cflags --libs aiinfra) -o cxx
[ "$(./cxx)" = "$version" ]

echo "== C, pkg-config --static"
# shellcheck disable=SC2046
gcc program.c $(pkg-config --cflags aiinfra) "$prefix/lib/libaiinfra.a" \
  $(pkg-config --static --libs aiinfra | sed 's/-laiinfra//') -o static 2>static.log || {
  # Some systems ship no static description of a library below us; the shared ones do as well.
  # shellcheck disable=SC2046
  gcc program.c $(pkg-config --cflags aiinfra) "$prefix/lib/libaiinfra.a" $(pkg-config --libs $(pkg-config \
    --print-requires-private aiinfra)) -lm -ldl -pthread -o static
}
[ "$(./static)" = "$version" ]

echo "== CMake, find_package"
cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.18)
project(consumer C)
find_package(aiinfra 0.1 REQUIRED CONFIG)
add_executable(consumer program.c)
target_link_libraries(consumer PRIVATE aiinfra::aiinfra)
END
cmake -S . -B out -DCMAKE_PREFIX_PATH="$prefix" >cmake.log 2>&1 || { cat cmake.log; exit 1; }
cmake --build out >cmake.log 2>&1 || { cat cmake.log; exit 1; }
[ "$(out/consumer)" = "$version" ]

if [ -x "$prefix/bin/aiinfra" ]; then
  echo "== the installed program finds its library"
  env -u LD_LIBRARY_PATH "$prefix/bin/aiinfra" --version
fi

make -C "$root" --no-print-directory BUILD="$build" PREFIX="$prefix" DESTDIR= uninstall
left=$(find "$prefix" -not -type d)
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
echo ok
