# Debian packages that building, testing and measuring need, and the function that installs those that are missing.
# Sourced by deploy/run.sh and tests/run.sh.
# shellcheck shell=bash disable=SC2034

BUILD_PACKAGES=(g++ meson ninja-build pkg-config cmake liburing-dev libabsl-dev libyaml-cpp-dev libre2-dev
  libspdlog-dev prometheus-cpp-dev systemtap-sdt-dev zlib1g-dev nlohmann-json3-dev libcli11-dev libc-ares-dev
  libgtest-dev)
TEST_PACKAGES=(python3 python3-pytest python3-yaml python3-jsonschema python3-seccomp python3-pyte docker-compose dnsmasq-base)
# Of the fuzz targets, which need clang and its runtime, and of the test that counts trace probes.
FUZZ_PACKAGES=(clang-14 libclang-rt-14-dev bpftrace)
# Also of the tests that only the full tier runs.
MEASURE_PACKAGES=(nginx libnginx-mod-stream openssh-client openssh-server)

# Installs those of the named packages that are not there. Prints what it does; does nothing if all are there.
install_missing() {
  local package missing=() as_root=()
  if ! command -v dpkg-query >/dev/null; then
    echo "not a Debian system: these must be there already: $*"
    return 0
  fi
  for package in "$@"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "missing packages, and neither root nor sudo to install them: ${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "installing: ${missing[*]}"
  # A fresh machine or container may have no package lists yet, an old one outdated ones.
  "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
      >/dev/null
}
