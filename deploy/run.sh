#!/usr/bin/env bash
# One command from a fresh Debian machine to a running proxy under load. See --help.
# shellcheck disable=SC2317 # functions that traps and wait_for call
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
build=${RINGMAIN_BUILD:-$root/build}
proxy_port=8080 admin_port=9900 server_ports=(7001 7002) # as in ringmain.yaml
start_seconds=20 stop_seconds=10

usage() {
  cat <<'END'
usage: deploy/run.sh [--once] [--no-build]

Installs what is missing, builds a release, starts two echo servers (127.0.0.1:7001, 7002) and ringmain with
deploy/ringmain.yaml (127.0.0.1:8080, admin 127.0.0.1:9900), drives five seconds of load through it, prints the report
and stays up until Ctrl-C.

  --once      end after the report; the exit code is 0 only if every byte came back right
  --no-build  use the binaries that are there (in $RINGMAIN_BUILD if set, else build/); install nothing
  --help      this text
END
}

say() { echo "run.sh: $*"; }
die() {
  echo "run.sh: $*" >&2
  exit 1
}

once=false do_build=true
for argument in "$@"; do
  case $argument in
    --once) once=true ;;
    --no-build) do_build=false ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done

children=() # process ids, in the order they were started
logs=$(mktemp -d "${TMPDIR:-/tmp}/ringmain-run.XXXXXX")

# Ends the children, last started first, and waits for each of them.
clean_up() {
  local code=$? index pid tries
  trap - EXIT
  trap '' INT TERM HUP
  for ((index = ${#children[@]} - 1; index >= 0; --index)); do
    pid=${children[index]}
    kill -TERM "$pid" 2>/dev/null || true
    for ((tries = stop_seconds * 20; tries > 0; --tries)); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.05
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf -- "$logs"
  exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# start NAME COMMAND...: runs it in the background, its output into a log of that name.
start() {
  local name=$1
  shift
  "$@" >"$logs/$name" 2>&1 </dev/null &
  children+=($!)
}

# wait_for NAME PID COMMAND...: until the command succeeds; dies if the process ends first or the time is up.
wait_for() {
  local name=$1 pid=$2 deadline=$((SECONDS + start_seconds))
  shift 2
  until "$@"; do
    kill -0 "$pid" 2>/dev/null || die "$name did not start: $(tail -n 1 "$logs/$name")"
    ((SECONDS < deadline)) || die "$name was not ready after ${start_seconds} s: $(tail -n 1 "$logs/$name")"
    sleep 0.05
  done
}

echo_listens() { [[ $(grep -c 'listening address=' "$logs/ringmain-echo") -ge ${#server_ports[@]} ]]; }

# GET /readyz with nothing but bash.
proxy_ready() {
  local status
  { exec 3<>"/dev/tcp/127.0.0.1/$admin_port"; } 2>/dev/null || return 1
  printf 'GET /readyz HTTP/1.0\r\nHost: 127.0.0.1:%s\r\n\r\n' "$admin_port" >&3
  read -r -t 2 status <&3 || status=
  exec 3<&- 3>&-
  [[ $status == *' 200 '* ]]
}

if $do_build; then
  # shellcheck source=deploy/packages.sh
  source "$root/deploy/packages.sh"
  install_missing "${BUILD_PACKAGES[@]}" || die "the packages could not be installed"
  if [[ ! -f $build/build.ninja ]]; then
    say "configuring a release build in $build"
    meson setup "$build" "$root" --buildtype=release >"$logs/meson" 2>&1 || {
      tail -n 20 "$logs/meson" >&2
      die "meson setup failed"
    }
  fi
  say "building"
  ninja -C "$build" ringmain loadtest/ringmain-load loadtest/ringmain-echo >"$logs/ninja" 2>&1 || {
    grep -A 20 -m 1 '^FAILED' "$logs/ninja" >&2 || tail -n 20 "$logs/ninja" >&2
    die "the build failed"
  }
fi
for binary in ringmain loadtest/ringmain-load loadtest/ringmain-echo; do
  [[ -x $build/$binary ]] || die "$build/$binary is not there; run without --no-build"
done

for port in "${server_ports[@]}" "$proxy_port" "$admin_port"; do
  ! port_taken "$port" || die "port $port of 127.0.0.1 is in use by another program; end it and try again"
done

servers=$(printf ',127.0.0.1:%s' "${server_ports[@]}")
say "starting echo servers on ${servers#,}"
start ringmain-echo "$build/loadtest/ringmain-echo" --listen "${servers#,}"
wait_for ringmain-echo "${children[-1]}" echo_listens

say "starting ringmain on 127.0.0.1:$proxy_port"
start ringmain "$build/ringmain" run --config "$root/deploy/ringmain.yaml"
proxy=${children[-1]}
wait_for ringmain "$proxy" proxy_ready

say "driving load: 50 connections, 64-byte messages, 5 s"
# In the background, so that a signal to this script is acted on at once.
"$build/loadtest/ringmain-load" ping --to "127.0.0.1:$proxy_port" --connections 50 --payload 64 --duration 5s \
  --threads 1 --json "$logs/report.json" </dev/null &
load=$!
children+=("$load")
code=0
wait "$load" || code=$?
unset 'children[-1]'
((code == 0)) || die "the load ended with errors (exit code $code)"
kill -0 "$proxy" 2>/dev/null || die "ringmain ended during the load: $(tail -n 1 "$logs/ringmain")"

say "every byte came back right; admin address: http://127.0.0.1:$admin_port/"
$once && exit 0
trap 'exit 0' INT TERM # the normal end from here on
say "up until Ctrl-C; log: $logs/ringmain"
wait -n "${children[@]}" || true
die "a child ended by itself: $(tail -qn 1 "$logs/ringmain" "$logs/ringmain-echo")"
