#!/bin/bash
# Installs or removes the library, for `make install` and `make uninstall`; they hand over the settings:
# BUILD, DESTDIR, PREFIX, VERSION, SONAME and PKGS in the environment.
#
# install.sh install | uninstall
set -eu
cd "$(dirname "$0")/../.."
top=$DESTDIR$PREFIX
real=libaiinfra.so.$VERSION

fill() { # template target
  mkdir -p "$(dirname "$2")"
  sed -e "s|@PREFIX@|$PREFIX|g" -e "s|@VERSION@|$VERSION|g" -e "s|@SONAME@|$SONAME|g" -e "s|@PKGS@|$PKGS|g" \
    -e "s|@MINOR@|${VERSION%.*}|g" "$1" >"$2"
}

case "$1" in
  install)
    install -D -m 755 -t "$top/lib" "$BUILD/$real"
    ln -sf "$real" "$top/lib/$SONAME"
    ln -sf "$SONAME" "$top/lib/libaiinfra.so"
    install -D -m 644 -t "$top/lib" "$BUILD/libaiinfra.a"
    for plugin in cuda mpi postgres; do
      [ ! -e "$BUILD/libaiinfra-$plugin.so" ] || install -D -m 755 -t "$top/lib" "$BUILD/libaiinfra-$plugin.so"
    done
    for header in include/*.h; do [ ! -e "$header" ] || install -D -m 644 -t "$top/include" "$header"; done
    install -D -m 644 -t "$top/include/aiinfra" include/aiinfra/*.h
    [ ! -e "$BUILD/aiinfra" ] || install -D -m 755 -t "$top/bin" "$BUILD/aiinfra"
    [ ! -e examples/nano/nano.gguf ] || install -D -m 644 -t "$top/share/aiinfra" examples/nano/nano.gguf
    fill src/packaging/aiinfra.pc.in "$top/lib/pkgconfig/aiinfra.pc"
    fill src/packaging/aiinfraConfig.cmake.in "$top/lib/cmake/aiinfra/aiinfraConfig.cmake"
    fill src/packaging/aiinfraConfigVersion.cmake.in "$top/lib/cmake/aiinfra/aiinfraConfigVersion.cmake"
    [ -n "$DESTDIR" ] || [ "$(id -u)" != 0 ] || ldconfig 2>/dev/null || true
    echo "installed libaiinfra $VERSION to $top"
    ;;
  uninstall)
    rm -f "$top"/lib/libaiinfra.so* "$top"/lib/libaiinfra-{cuda,mpi,postgres}.so "$top/lib/libaiinfra.a" "$top/lib/pkgconfig/aiinfra.pc" "$top/bin/aiinfra"
    rm -f "$top/include/aiinfra.h"
    rm -rf "$top/include/aiinfra" "$top/lib/cmake/aiinfra" "$top/share/aiinfra"
    echo "removed libaiinfra from $top"
    ;;
  *)
    echo "install.sh install | uninstall" >&2
    exit 2
    ;;
esac
