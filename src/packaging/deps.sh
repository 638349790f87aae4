#!/bin/sh
# Installs the Debian packages that are missing from the sets named: build, test, lint, fuzz, nano, abi.
#
# Silent and fast when nothing is missing. A row is "probe package": the probe is the pkg-config module or the
# program or the Python module that shows that the package is there. Systems without apt-get are told what to install.
set -eu

packages() {
  case "$1" in
    build) echo "gcc gcc
g++ g++
pkg-config pkg-config
python3 python3
pc:libuv libuv1-dev
pc:sqlite3 libsqlite3-dev
pc:jansson libjansson-dev
pc:libutf8proc libutf8proc-dev
pc:libpcre2-8 libpcre2-dev
pc:libmicrohttpd libmicrohttpd-dev" ;;
    test) echo "cmake cmake
mpicc libopenmpi-dev
mpirun openmpi-bin
pc:libpq libpq-dev
file:/usr/share/postgresql-common postgresql
pc:cmocka libcmocka-dev
file:/usr/include/simde/x86/avx512.h libsimde-dev
pdftotext poppler-utils" ;;
    lint) echo "clang-format-14 clang-format-14" ;;
    fuzz) echo "clang clang
llvm-symbolizer llvm" ;;
    nano) echo "python3 python3
py:ensurepip python3-venv" ;;
    abi) echo "abidiff abigail-tools" ;;
    *) echo "deps.sh: no such set: $1" >&2; exit 2 ;;
  esac
}

present() {
  case "$1" in
    pc:*) pkg-config --exists "${1#pc:}" 2>/dev/null ;;
    file:*) test -e "${1#file:}" ;;
    py:*) python3 -c "import ${1#py:}" 2>/dev/null ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}

missing=$(for set; do packages "$set"; done | while read -r probe package; do
  present "$probe" || printf '%s ' "$package"
done)
# Debian keeps libFuzzer apart from clang.
case " $* " in *" fuzz "*) fuzz=1 ;; *) fuzz=0 ;; esac
if [ $fuzz = 1 ] && ! ls /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-* >/dev/null 2>&1; then
  missing="$missing libclang-rt-14-dev"
fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  echo "Please install what this system calls these Debian packages, then run make again:" >&2
  echo "  $missing" >&2
  exit 1
fi
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
if [ -n "$sudo" ] && ! command -v sudo >/dev/null 2>&1; then
  echo "Please run as root: apt-get install $missing" >&2
  exit 1
fi
echo "installing: $missing"
apt="$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0"
log=$(mktemp)
# Another installation may hold the lock of the package lists, which apt-get does not wait for: try again.
for _ in 1 2 3 4 5 6; do
  # shellcheck disable=SC2086
  if { $apt update && $apt install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    rm -f "$log"
    exit 0
  fi
  grep -q 'Could not get lock' "$log" || break
  sleep 10
done
cat "$log" >&2
rm -f "$log"
exit 1
