#!/usr/bin/env bash
# Installs what cvtrace needs, and only what is missing: system packages (as root or through sudo) and .venv.
# Quiet when there is nothing to do. Needs Python 3.11 or newer with venv.
# With --tests, what only the tests need, too: a C compiler, and Chromium, in which they look at the report (120 MB).
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

install_system_packages() {
  local missing=()
  has_bcc >/dev/null || missing+=(bcc)
  has_libfuse || missing+=(fuse)
  command -v strace >/dev/null 2>&1 || missing+=(strace)
  [ ${#missing[@]} -eq 0 ] && return 0
  local packages=()
  if command -v apt-get >/dev/null 2>&1; then
    for name in "${missing[@]}"; do
      case $name in bcc) packages+=(python3-bpfcc) ;; fuse) packages+=(fuse3 libfuse3-3) ;; *) packages+=("$name") ;; esac
    done
    say "installing ${packages[*]}"
    { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${packages[@]}"; } \
      >/dev/null 2>"$log" && return 0
  elif command -v dnf >/dev/null 2>&1; then
    for name in "${missing[@]}"; do
      case $name in bcc) packages+=(python3-bcc) ;; fuse) packages+=(fuse3 fuse3-libs) ;; *) packages+=("$name") ;; esac
    done
    say "installing ${packages[*]}"
    as_root dnf install -y -q "${packages[@]}" >/dev/null 2>"$log" && return 0
  fi
  say "could not install ${missing[*]} (no root, no apt or dnf, or no network); going on with what works without:"
  tail -n 3 "$log" >&2 || true
}

install_compiler() {
  for name in gcc cc; do command -v "$name" >/dev/null 2>&1 && return 0; done
  say "installing a C compiler for the tests"
  if command -v apt-get >/dev/null 2>&1; then
    { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      --no-install-recommends gcc libc6-dev; } >/dev/null 2>"$log" && return 0
  elif command -v dnf >/dev/null 2>&1; then
    as_root dnf install -y -q gcc glibc-devel >/dev/null 2>"$log" && return 0
  fi
  say "could not install a C compiler; tests that need one are skipped"
}

# On its own: where a distribution has no such package, the others are still installed.
install_browser() {
  local name
  for name in chromium chromium-browser google-chrome; do command -v "$name" >/dev/null 2>&1 && return 0; done
  say "installing chromium for the tests of the report (120 MB)"
  if command -v apt-get >/dev/null 2>&1; then
    { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      --no-install-recommends chromium fonts-dejavu-core; } >/dev/null 2>"$log" && return 0
  elif command -v dnf >/dev/null 2>&1; then
    as_root dnf install -y -q chromium dejavu-sans-fonts >/dev/null 2>"$log" && return 0
  fi
  say "could not install chromium; tests that need a browser will say so:"
  tail -n 3 "$log" >&2 || true
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null &&
      { command -v "$candidate"; return 0; }
  done
  say "Python 3.11 to 3.14 was not found: install one (apt install python3 python3-venv) or name it with PYTHON=…"
  return 1
}

make_venv() {
  local stamp=.venv/.installed wanted python
  wanted=$(cat pyproject.toml requirements-dev.txt | cksum)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return 0
  python=$(find_python)
  if [ ! -x .venv/bin/python ]; then
    say "making .venv with $("$python" --version)"
    if ! "$python" -m venv .venv 2>"$log"; then
      rm -rf .venv
      command -v apt-get >/dev/null 2>&1 && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null 2>"$log"
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

# Tracepoints are found through tracefs, which not every machine mounts.
mount_tracefs() {
  [ -d /sys/kernel/tracing ] || return 0
  [ -d /sys/kernel/tracing/events ] || as_root mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
install_system_packages
if [ "${1:-}" = --tests ]; then
  install_compiler
  install_browser
fi
make_venv
mount_tracefs
