#!/usr/bin/env bash
# All tests with one command. See --help.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python=/usr/bin/python3 # Debian's, which has Debian's pytest
optional_features=defer_taskrun,registered_ring,multishot_accept,multishot_receive,optlen,splice

usage() {
  cat <<'END'
usage: tests/run.sh [--ci | --full]

Installs what is missing, builds, runs the tests, and ends with a line `N passed, N failed`; the exit code is not 0 if
one failed.

  (default)  unit, simulation, include table and house rules, integration without the slow ones; under 5 minutes
  --ci       adds: integration tests that take some seconds each; unit and simulation under AddressSanitizer and
             UndefinedBehaviorSanitizer; the integration tests marked `sanitizer` against builds with AddressSanitizer
             and with ThreadSanitizer; the integration tests once more with every optional kernel feature off; each fuzz
             target for 10 s
  --full     adds to --ci: the slow tests and the measurements, and more time for the fuzz targets
  --help     this text

Builds are kept in build/, build-asan/, build-tsan/ and build-fuzz/. $RINGMAIN_BUILD names another folder instead of build/.
END
}

tier=default
for argument in "$@"; do
  case $argument in
    --ci | --full) tier=${argument#--} ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done

build=${RINGMAIN_BUILD:-$root/build}
results=$(mktemp -d "${TMPDIR:-/tmp}/ringmain-tests.XXXXXX")
suite= # the process group of the suite that runs, to end with this script
trap 'rm -rf -- "$results"' EXIT
trap '[[ -z $suite ]] || kill -TERM -- "-$suite" 2>/dev/null; exit 130' INT TERM HUP

step() { printf '== %(%H:%M:%S)T %s\n' -1 "$*"; }
failed() { echo "$*" >>"$results/failures.txt"; }

# run_suite NAME SECONDS RESULT COMMAND...: runs a suite in a process group of its own with a limit. RESULT is the file
# it writes its results to; an exit code that those do not explain counts as one failure more.
run_suite() {
  local name=$1 limit=$2 result=$3 code=0
  shift 3
  step "$name"
  set -m # without job control a background process would ignore SIGINT, and so would all that the tests start
  timeout --kill-after=20 "$limit" "$@" </dev/null &
  suite=$!
  set +m
  wait "$suite" || code=$?
  suite=
  if ((code == 124 || code == 137)); then
    failed "$name: not finished after $limit s"
  elif [[ ! -s $result ]]; then
    failed "$name: ended with exit code $code and no results"
  elif ((code != 0)) && "$python" "$root/tests/report.py" --none-failed "$result"; then
    failed "$name: ended with exit code $code though no test failed"
  fi
}

# build_in FOLDER MESON-OPTION...: configures once, builds ($targets, or all). Returns 1 and counts a failure if that does not work.
targets=()
build_in() {
  local folder=$1 log
  shift
  log=$results/build.log
  step "building in ${folder#"$root"/}"
  if [[ ! -f $folder/build.ninja ]] && ! meson setup "$folder" "$root" "$@" >"$log" 2>&1; then
    tail -n 30 "$log"
    failed "${folder#"$root"/}: meson setup failed"
    return 1
  fi
  if ! ninja -C "$folder" "${targets[@]}" >"$log" 2>&1; then
    grep -A 30 -m 1 '^FAILED' "$log" || tail -n 30 "$log"
    failed "${folder#"$root"/}: the build failed"
    return 1
  fi
}

# gtest NAME FOLDER PROGRAM SOURCES: a program that is not there is a failure if it has sources.
gtest() {
  local name=$1 program=$2/tests/$3 sources=$4
  if [[ -x $program ]]; then
    run_suite "$name" 600 "$results/$name.json" "$program" --gtest_brief=1 "--gtest_output=json:$results/$name.json"
  elif compgen -G "$root/tests/$sources" >/dev/null; then
    failed "$name: $program was not built"
  fi
}

# pytest NAME FOLDER SECONDS PATH ARGUMENT...
pytest() {
  local name=$1 folder=$2 limit=$3 path=$4
  shift 4
  RINGMAIN_BUILD=$folder run_suite "$name" "$limit" "$results/$name.xml" "${wrapper[@]}" "$python" -m pytest -q \
    -p no:cacheprovider --tb=short --junitxml="$results/$name.xml" "$root/tests/$path" "$@"
}
wrapper=()

run_default() {
  pytest tidy "$build" 60 tidy
  build_in "$build" --buildtype=release || return 0
  gtest unit "$build" unit_tests 'unit/*/*.cc'
  gtest unit-loadtest "$build" unit/loadtest/loadtest_unit_tests 'unit/loadtest/*.cc'
  gtest sim "$build" sim_tests 'sim/*.cc'
  local but='not slow and not measure'
  [[ $tier != default ]] || but+=' and not ci'
  pytest integration "$build" 1200 integration -m "$but"
}

run_sanitizers() {
  export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:detect_leaks=1
  export UBSAN_OPTIONS=print_stacktrace=1
  export TSAN_OPTIONS=second_deadlock_stack=1
  export RINGMAIN_SANITIZER=1 # the tests stretch their deadlines and leave memory bounds out
  # Little optimization and line numbers only: such a build takes half the time.
  local options=(--buildtype=custom -Doptimization=1 -Ddebug=true -Db_lundef=false)
  if build_in "$root/build-asan" "${options[@]}" -Db_sanitize=address,undefined '-Dcpp_args=-g1 -fno-sanitize-recover=all'; then
    gtest unit-asan "$root/build-asan" unit_tests 'unit/*/*.cc'
    gtest unit-loadtest-asan "$root/build-asan" unit/loadtest/loadtest_unit_tests 'unit/loadtest/*.cc'
    gtest sim-asan "$root/build-asan" sim_tests 'sim/*.cc'
    pytest integration-asan "$root/build-asan" 1500 integration -m sanitizer
  fi
  if build_in "$root/build-tsan" "${options[@]}" -Db_sanitize=thread -Dcpp_args=-g1 -Dtests=false; then
    # GCC 12's ThreadSanitizer cannot map its shadow memory where the kernel randomises addresses by more than 28 bits.
    wrapper=(setarch "$(uname -m)" --addr-no-randomize)
    pytest integration-tsan "$root/build-tsan" 1500 integration -m sanitizer
    wrapper=()
  fi
  unset RINGMAIN_SANITIZER
}

# What has nothing to do with the data path behaves the same with those features and without.
run_without_features() {
  local but='not slow and not measure' ignored=(deploy)
  [[ $tier == full ]] || ignored+=(admin admission compare config dns examples health health_types loadtools reload servers
    socket_options systemd upgrade)
  [[ $tier == full ]] || but+=' and not ci'
  ignored=("${ignored[@]/#/--ignore=$root/tests/integration/test_}")
  RINGMAIN_DISABLE=$optional_features pytest integration-no-features "$build" 1200 integration -m "$but" "${ignored[@]/%/.py}"
}

# run_fuzzers SECONDS: each target, beginning with its corpus. What one crashes at is left in build-fuzz/.
run_fuzzers() {
  local target name
  targets=(fuzz)
  CXX=clang++-14 build_in "$root/build-fuzz" --buildtype=debugoptimized -Db_lundef=false -Dfuzz=true -Dtests=false -Dloadtest=false ||
    { targets=() && return 0; }
  targets=()
  for target in "$root"/build-fuzz/tests/fuzz/*_fuzz; do
    name=${target##*/}
    step "fuzz ${name%_fuzz}"
    mkdir -p "$results/$name"
    if timeout --kill-after=20 $(($1 + 60)) "$target" "$results/$name" "$root/tests/fuzz/corpus/${name%_fuzz}" \
      "-max_total_time=$1" -max_len=5000 -timeout=10 "-artifact_prefix=$root/build-fuzz/$name-" >"$results/fuzz.log" 2>&1; then
      echo "fuzz ${name%_fuzz}" >>"$results/passes.txt"
    else
      tail -n 40 "$results/fuzz.log"
      failed "fuzz ${name%_fuzz}"
    fi
  done
}

run_slow() {
  local script
  pytest integration-slow "$build" 1800 integration -m 'slow or measure'
  for script in "$root"/tests/measure/*.sh; do
    [[ -x $script ]] || continue
    step "measure ${script##*/}"
    if RINGMAIN_BUILD=$build timeout --kill-after=20 900 "$script"; then
      echo "measure ${script##*/}" >>"$results/passes.txt"
    else
      failed "measure ${script##*/}"
    fi
  done
}

# shellcheck source=deploy/packages.sh
source "$root/deploy/packages.sh"
packages=("${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}")
[[ $tier == default ]] || packages+=("${CI_PACKAGES[@]}" "${FUZZ_PACKAGES[@]}")
[[ $tier != full ]] || packages+=("${MEASURE_PACKAGES[@]}")
install_missing "${packages[@]}" || {
  echo "0 passed, 1 failed"
  exit 1
}

run_default
if [[ $tier != default ]]; then
  [[ ! -x $build/ringmain ]] || run_without_features
  run_sanitizers
  run_fuzzers "$([[ $tier == full ]] && echo 60 || echo 10)"
fi
if [[ $tier == full && -x $build/ringmain ]]; then
  run_slow
fi
step "done in $((SECONDS / 60)) min $((SECONDS % 60)) s"
"$python" "$root/tests/report.py" "$results"
