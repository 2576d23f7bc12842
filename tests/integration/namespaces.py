"""Commands in namespaces of their own; where these are refused, the test that wants them is skipped and says so."""

from __future__ import annotations

import functools
import subprocess

import pytest

PREPARED = ("--mount", "--propagation", "private")
WITHOUT_TRACEFS = """
for folder in /sys/kernel/tracing /sys/kernel/debug/tracing /sys/kernel/debug; do
  while umount -l "$folder" 2>/dev/null; do :; done
done
"""
"""Shell that takes every tracefs away, whether or not there is one."""
WITHOUT_BCC = """
for folder in /usr/lib/python3/dist-packages/bcc /usr/lib*/python3*/site-packages/bcc; do
  if [ -d "$folder" ]; then mount -t tmpfs none "$folder"; fi
done
"""
WITHOUT_STRACE = """
for folder in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
  if [ -e "$folder/strace" ]; then mount --bind /dev/null "$folder/strace"; fi
done
"""


def unshare(*options: str) -> list[str]:
    """Return the begin of a command line in new namespaces: options of unshare(1). Skips the test where they are refused."""
    refused = _refused(options)
    if refused:
        pytest.skip(f"unshare {' '.join(options)} is refused here: {refused}")
    return ["unshare", *options]


def after(preparation: str, *command: object) -> list[str]:
    """Return the command line that runs `command` in a mount namespace which a piece of shell has prepared."""
    return [*unshare(*PREPARED), "sh", "-ec", f'{preparation}\nexec "$@"', "sh", *map(str, command)]


@functools.cache
def _refused(options: tuple[str, ...]) -> str:
    try:
        result = subprocess.run(["unshare", *options, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "it is not installed"
    return "" if result.returncode == 0 else result.stderr.strip() or f"exit code {result.returncode}"
