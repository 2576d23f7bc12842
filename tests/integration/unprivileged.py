"""Runs commands as nobody, without a capability, though interpreter and repository may lie in folders closed to others.

In a mount namespace of its own each closed folder (a home of mode 0700, say) is covered by an empty one that anybody may
enter, into which what is needed is bound back. Outside nothing changes, and the process is a real stranger: uid, groups and
capabilities are dropped by setpriv(1) before the command starts.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from namespaces import PREPARED, unshare

NOBODY = 65534
FUSE_DEVICE = "10 229"
NEEDED = ("unshare", "setpriv", "mount")
ROOT = Path(__file__).resolve().parents[2]
AS_READER = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
"""Runs the rest of a command line as nobody who may read everything, where that is stranger enough."""


def cannot() -> str | None:
    """Return why commands cannot be run as nobody here, if so."""
    if os.geteuid() != 0:
        return "only root can become nobody"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    return f"{missing[0]} is not installed" if missing else None


def as_nobody(command: Sequence[str | Path], *paths: Path, may_mount: bool = False) -> list[str]:
    """Return the command line that runs `command` as nobody, who can read this repository, its Python and `paths`.

    `may_mount`: with fusermount3(1), which is root's, and a /dev/fuse that anybody may open, as most machines have it.
    """
    folders = [ROOT, Path(sys.base_prefix).resolve(), Path(sys.prefix), *paths]
    lines = ["set -e"]
    closed = sorted({parent for path in folders for parent in path.parents if not parent.stat().st_mode & 0o001})
    outermost = [folder for folder in closed if not any(parent in folder.parents for parent in closed)]
    if outermost:
        lines.append("mount -t tmpfs -o mode=755 tmpfs /mnt")
    hidden = [path for path in dict.fromkeys(folders) if any(folder in path.parents for folder in outermost)]
    for number, path in enumerate(hidden):
        lines.append(f"mkdir /mnt/{number}; mount --rbind {shlex.quote(str(path))} /mnt/{number}")
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(folder))}" for folder in outermost]
    for number, path in enumerate(hidden):
        lines.append(f"mkdir -p {shlex.quote(str(path))}; mount --rbind /mnt/{number} {shlex.quote(str(path))}")
    if may_mount:
        lines += ["mount -t tmpfs -o mode=755 tmpfs /media", f"mknod -m 666 /media/fuse c {FUSE_DEVICE}"]
        lines.append("mount --bind /media/fuse /dev/fuse")
    drop = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --inh-caps=-all"
    drop += "" if may_mount else " --bounding-set=-all --no-new-privs"
    lines.append(f"exec {drop} {shlex.join(map(str, command))}")
    return [*unshare(*PREPARED), "sh", "-c", "\n".join(lines)]


def run_as_nobody(
    command: Sequence[str | Path], *paths: Path, cwd: Path, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as nobody in `cwd`, with an environment of its own."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8", "ORT_DISABLE_TELEMETRY": "1", **environ}
    return subprocess.run(
        as_nobody(command, *paths), cwd=cwd, env=clean, capture_output=True, text=True, timeout=120, check=False
    )
