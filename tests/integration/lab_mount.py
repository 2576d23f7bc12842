"""A published repository, its origin and a mount by the lab's client, for tests; everything is undone at the end."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from waiting import wait_until

from cvtrace.lab.client import DEFAULT_RELEASE, Mounted, configure, start, unmount
from cvtrace.lab.errors import LabError
from cvtrace.lab.origin import AccessEntry, Injection, Origin, read_access_log
from cvtrace.lab.publish import Published, publish
from cvtrace.lab.stack import drop_mount_cache
from cvtrace.probes.strace import processes

FQRN = "test.example.org"


@dataclass
class LabMount:
    """What a test gets to hold."""

    mounted: Mounted
    origin: Origin
    published: Published
    access_log: Path

    @property
    def root(self) -> Path:
        return self.mounted.mountpoint

    def drop_caches(self) -> None:
        """Drop what the kernel has of the mount and of the client's cache, so that the next read reaches the client."""
        drop_mount_cache(self.root, self.mounted.workspace)

    def talk(self, command: str) -> str:
        """Send a command over the talk socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            # The daemon's directory by another name: a socket's path may not be longer than 107 bytes.
            connection.connect(f"/proc/{self.mounted.pid}/cwd/cvmfs_io.{FQRN}")
            connection.sendall(command.encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def counters(self) -> dict[str, int]:
        """Return the client's counters."""
        lines = self.talk("internal affairs").partition("Name|Value|Description\n")[2].splitlines()
        return {name: int(value) for name, value, _ in (line.split("|", 2) for line in lines)}

    def gets(self) -> list[AccessEntry]:
        """Return what the origin was asked for."""
        assert self.origin.wait_idle()
        return list(read_access_log(self.access_log))

    def cached_objects(self) -> list[Path]:
        """Return the files in the cache, except transactions."""
        return [path for path in self.mounted.workspace.glob("[0-9a-f][0-9a-f]/*") if path.is_file()]


@dataclass
class Lab:
    """A published repository and its origin."""

    published: Published
    origin: Origin
    access_log: Path
    folder: Path

    @property
    def url(self) -> str:
        return f"{self.origin.url}/cvmfs/{FQRN}"

    @contextlib.contextmanager
    def mount(
        self,
        *,
        quota_bytes: int = 4_000_000_000,
        cache: Path | None = None,
        retries: int = 1,
        url: str | None = None,
        timeout_s: float = 20,
        like: str = DEFAULT_RELEASE,
    ) -> Iterator[LabMount]:
        """Mount what the origin serves or what is at `url`. `timeout_s`: an origin on a busy machine may be without a CPU for seconds."""
        mountpoint = self.folder / "mnt"
        mountpoint.mkdir(exist_ok=True)
        configuration = configure(
            FQRN,
            mountpoint,
            url or self.url,
            self.published.key_path,
            cache or self.folder / "cache",
            quota_bytes,
            max_retries=retries,
            backoff_s=(0.02, 0.1),
            timeout_s=timeout_s,
            like=like,
        )
        mounted = start(configuration)
        try:
            yield LabMount(mounted, self.origin, self.published, self.access_log)
        finally:
            if f" {mountpoint} fuse " in Path("/proc/mounts").read_text():
                try:
                    unmount(mountpoint)
                except LabError:  # held open by a test that failed: the next test must not see it
                    subprocess.run(["umount", "--lazy", str(mountpoint)], check=False)


@contextlib.contextmanager
def lab(
    folder: Path,
    files: Mapping[str, bytes],
    *,
    chunk_size: int = 1_000_003,
    compression: str = "zlib",
    injections: tuple[Injection, ...] = (),
) -> Iterator[Lab]:
    """Publish files and serve them."""
    for name, content in files.items():
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    published = publish(
        folder / "source",
        fqrn=FQRN,
        store=folder / "store",
        chunk_size=chunk_size,
        compression="none" if compression == "none" else "zlib",
    )
    origin = Origin(folder / "store", injections=injections, access_log=folder / "access.log")
    origin.start()
    try:
        yield Lab(published, origin, folder / "access.log", folder)
    finally:
        origin.stop()


@contextlib.contextmanager
def strace(pid: int, log: Path) -> Iterator[None]:
    """Trace all threads of a process into a log."""
    stops = processes.stops_of(pid)
    tracer = subprocess.Popen(
        ["strace", "-f", "-ttt", "-T", "-yy", "-xx", "-s", "128", "-o", str(log), "-p", str(pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    tasks = Path(f"/proc/{pid}/task")

    def attached() -> bool:
        return all(f"TracerPid:\t{tracer.pid}\n" in (task / "status").read_text() for task in tasks.iterdir())

    try:
        wait_until(attached, "strace attached to every thread")
        wait_until(lambda: processes.have_settled(pid, stops), "every thread waits for requests again")
        yield
    finally:
        tracer.terminate()
        tracer.communicate()
