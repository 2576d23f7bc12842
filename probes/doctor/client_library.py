"""Whether functions of the client's library can be seen: fetch, download, clean-up of the cache, back-off."""

from __future__ import annotations

from typing import Final

from cvtrace.probes.command import SUDO
from cvtrace.probes.cvmfs.mounts import Mount
from cvtrace.probes.doctor.finding import OK, UNKNOWN, WARNING, Finding
from cvtrace.probes.ebpf.client import ClientLibrary, libraries_of
from cvtrace.probes.elf import NotElf

NAME: Final = "client_functions"


def client_functions(mount: Mount) -> Finding | None:
    """Look for the functions in the library that the daemon of a mount has loaded; None for the lab's client, which has none."""
    if mount.daemon is None or mount.daemon.client != "cvmfs2":
        return None
    try:
        libraries = libraries_of(mount.daemon.pid)
    except (OSError, NotElf):
        return Finding("cvmfs", NAME, UNKNOWN, "only root can read the client's library", f"{SUDO} doctor", mount.path)
    if not libraries:
        sentence = "no libcvmfs_fuse in the client: clean-ups of its cache and its back-off are not seen"
        return Finding("cvmfs", NAME, WARNING, sentence, None, mount.path)
    return _finding(libraries[-1], mount.path)


def _finding(library: ClientLibrary, path: str) -> Finding:
    of = f"{library.name} (build id {library.build_id or 'none'})"
    functions = ", ".join(library.functions) or "no function"
    if not library.hidden:
        return Finding("cvmfs", NAME, OK, f"{functions} in {of}", None, path)
    hidden = ", ".join(library.hidden)
    return Finding("cvmfs", NAME, WARNING, f"{functions} in {of}: not seen are {hidden}", library.mend, path)
