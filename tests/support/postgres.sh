#!/bin/bash
# A PostgreSQL server for one test: in a folder of its own, on a Unix socket in it, as an unprivileged user.
#
#   postgres.sh start FOLDER PID  makes it and starts it; prints the URI of a database; 77 with a reason: there is none.
#                               Server and folder go when the process PID is gone
#   postgres.sh stop FOLDER     ends it as kill -9 would; start again finds what was committed
#   postgres.sh psql FOLDER SQL runs SQL, prints values only
#
# AIINFRA_POSTGRES_BIN names the folder of another server's programs than the newest that Debian has.
set -eu
action=$1 folder=$2
bin=${AIINFRA_POSTGRES_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)}
[ -n "$bin" ] || bin=$(dirname "$(command -v postgres || echo /none/postgres)")
if [ ! -x "$bin/initdb" ]; then
  echo "no PostgreSQL server: install the package postgresql"
  exit 77
fi

as_user() { # a server refuses to run as root
  if [ "$(id -u)" != 0 ]; then "$@"; else setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; fi
}

case $action in
  start)
    if [ ! -e "$folder/data" ]; then
      mkdir -p "$folder"
      [ "$(id -u)" != 0 ] || chown nobody:nogroup "$folder"
      chmod 700 "$folder"
      (cd "$folder" && as_user "$bin/initdb" -D "$folder/data" -U tester -A trust -E UTF8 --locale=C -N >/dev/null)
    fi
    if [ ! -e "$folder/watched" ]; then
      touch "$folder/watched"
      # shellcheck disable=SC2016
      setsid bash -c 'while kill -0 "$2" 2>/dev/null; do sleep 1; done
        [ ! -e "$1" ] || { "$0" stop "$1"; rm -rf "$1"; }' "$(readlink -f "$0")" "$folder" "$3" </dev/null >/dev/null 2>&1 &
    fi
    # Signals to this script's group are not for the server; it goes when the test calls stop.
    (cd "$folder" && as_user setsid "$bin/pg_ctl" -D "$folder/data" -w -t 60 -l "$folder/log" -o "-k $folder \
      -c listen_addresses='' -c fsync=off -c shared_buffers=16MB -c max_connections=20 -c autovacuum=off \
      -c max_wal_senders=0 -c wal_level=minimal" start >/dev/null) </dev/null
    echo "postgres://tester@/postgres?host=$folder"
    ;;
  stop)
    if [ -e "$folder/data/postmaster.pid" ]; then
      (cd "$folder" && as_user "$bin/pg_ctl" -D "$folder/data" -w -t 60 -m immediate stop >/dev/null)
    fi
    ;;
  psql)
    (cd / && PGOPTIONS='-c client_min_messages=warning' "$bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$folder" -U tester -d postgres -c "$3")
    ;;
  *)
    echo "postgres.sh start|stop|psql FOLDER" >&2
    exit 2
    ;;
esac
