#!/usr/bin/env bash
# Installs what cvtrace needs, and only what is missing: system packages (as root or through sudo) and .venv.
# Quiet when there is nothing to do. Needs Python 3.11 or newer with venv.
# With --tests, also what only the tests need: a C compiler, and Chromium for the tests of the HTML report (120 MB).
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin # ldconfig is not on every user's PATH

say() { printf 'setup: %s\n' "$*" >&2; }

# Run a command as root; fails where neither root nor a passwordless sudo is at hand.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1; then sudo -n "$@"; else return 1; fi
}

has_bcc() {
  compgen -G '/usr/lib/python3/dist-packages/bcc' || compgen -G '/usr/lib*/python3*/site-packages/bcc'
}
# Not through a pipe: grep would end before ldconfig has written all, which then fails.
has_libfuse() { command -v fusermount3 >/dev/null 2>&1 && [[ "$(ldconfig -p 2>/dev/null)" == *libfuse3.so* ]]; }

# The packages for a need with each package manager. fuse3 depends on the library, whatever its name is (libfuse3-3, libfuse3-4, fuse3-libs).
packages_of() { # apt|dnf NEED
  case $1:$2 in
    apt:bcc) echo python3-bpfcc ;;
    dnf:bcc) echo python3-bcc ;;
    *:libfuse) echo fuse3 ;;
    *:strace) echo strace ;;
    apt:compiler) echo gcc libc6-dev ;;
    dnf:compiler) echo gcc glibc-devel ;;
    apt:browser) echo chromium fonts-dejavu-core ;;
    dnf:browser) echo chromium dejavu-sans-fonts ;;
    apt:venv) echo python3-venv ;;
    dnf:venv) echo python3 ;;
    apt:python) echo python3 python3-venv ;;
    dnf:python) echo python3.11 ;; # RHEL 9 and its rebuilds: python3 is 3.9 there
  esac
}

# What does not work if the packages of a need are missing.
without() {
  case $1 in
    bcc) echo "without it cvtrace observes with strace, or without privileges" ;;
    libfuse) echo "without it the embedded CVMFS and 'make demo' do not work" ;;
    strace) echo "without it --probes strace does not work" ;;
    compiler) echo "tests that need a C compiler are skipped" ;;
    browser) echo "tests that need a browser are skipped" ;;
    python | venv) echo "without it cvtrace cannot be installed" ;;
  esac
}

manager() {
  if command -v apt-get >/dev/null 2>&1; then echo apt; elif command -v dnf >/dev/null 2>&1; then echo dnf; else return 1; fi
}

# apt's lists are fetched once for all needs. If that fails, old lists may be sufficient.
update_lists() {
  [ -n "${lists_updated:-}" ] && return 0
  lists_updated=yes
  as_root apt-get update -qq >/dev/null 2>"$log" || true
}

# Install the packages of one need. Each need has its own call, so that a missing package does not prevent the others.
install_need() {
  local tool packages
  tool=$(manager) || { say "no apt or dnf here: install $1 by hand; $(without "$1")"; return 1; }
  read -ra packages <<<"$(packages_of "$tool" "$1")"
  say "installing ${packages[*]}"
  if [ "$tool" = apt ]; then
    update_lists
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "${packages[@]}" >/dev/null 2>"$log" && return 0
  else
    as_root dnf install -y -q "${packages[@]}" >/dev/null 2>"$log" && return 0
  fi
  say "could not install ${packages[*]}: $(reason)"
  say "install it with: sudo $tool install ${packages[*]}; $(without "$1")"
  return 1
}

# Why the last command failed, in one line.
reason() {
  local line
  line=$(grep -E '^(E|Error): ' "$log" | head -n 1) || line=$(tail -n 1 "$log")
  [ -n "$line" ] || line="neither root nor sudo without a password is at hand"
  printf '%s' "${line#E: }"
}

install_system_packages() {
  has_bcc >/dev/null || install_need bcc || true
  has_libfuse || install_need libfuse || true
  command -v strace >/dev/null 2>&1 || install_need strace || true
}

has_one_of() {
  local name
  for name in "$@"; do command -v "$name" >/dev/null 2>&1 && return 0; done
  return 1
}

install_test_tools() {
  has_one_of gcc cc || install_need compiler || true
  has_one_of chromium chromium-browser google-chrome || install_need browser || true
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null &&
      { command -v "$candidate"; return 0; }
  done
  return 1
}

# Print a Python that is new enough; install the distribution's one if there is none.
python_or_install() {
  find_python && return 0
  install_need python || true
  find_python && return 0
  say "there is no Python 3.11 to 3.14 on this machine: install one, or name its path with PYTHON=…"
  return 1
}

make_venv() {
  local stamp=.venv/.installed wanted python
  wanted=$(cat pyproject.toml requirements-dev.txt | cksum)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return 0
  python=$(python_or_install)
  if [ ! -x .venv/bin/python ]; then
    say "making .venv with $("$python" --version)"
    if ! "$python" -m venv .venv 2>"$log"; then
      rm -rf .venv
      install_need venv || true # Debian keeps ensurepip in a package of its own
      "$python" -m venv .venv
    fi
  fi
  say "installing Python packages into .venv"
  .venv/bin/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; return 1; }
  .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps -e . >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; return 1; }
  printf '%s' "$wanted" >"$stamp"
}

# eBPF programs find tracepoints through tracefs, which some machines do not mount.
mount_tracefs() {
  [ -d /sys/kernel/tracing ] || return 0
  [ -d /sys/kernel/tracing/events ] || as_root mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
exec 9<"$PWD/scripts/setup.sh"
flock 9 # two at once in one folder would fill the same .venv
install_system_packages
[ "${1:-}" = --tests ] && install_test_tools
make_venv
mount_tracefs
