"""A virtual machine with a distribution's kernel and this machine's file system, read-only, under emulation.

The kernel comes from its Debian package, which is unpacked into a cache folder and not installed. An initramfs of busybox and
the few modules needed mounts `/` of this machine through 9p, so that Python, bcc and the project are the ones installed here.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CACHE: Final = Path(os.environ.get("CVTRACE_KERNELS", Path.home() / ".cache" / "cvtrace-kernels"))
MEMORY_MB: Final = 4096
MODULES: Final = ("virtio_pci", "9pnet_virtio", "9p", "fuse", "overlay")
INIT: Final = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /host /upper /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod "$module" || echo "insmod $module failed"; done < /modules.list
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,msize=524288,ro host /host || /bin/busybox poweroff -f
/bin/busybox mount -t tmpfs tmpfs /upper
/bin/busybox mkdir /upper/changes /upper/work
/bin/busybox mount -t overlay -o lowerdir=/host,upperdir=/upper/changes,workdir=/upper/work overlay /root || /bin/busybox poweroff -f
for fs in proc sys dev run tmp; do /bin/busybox mkdir -p /root/$fs; done
/bin/busybox mount -t proc proc /root/proc
/bin/busybox mount -t sysfs sys /root/sys
/bin/busybox mount -t devtmpfs dev /root/dev
/bin/busybox mkdir -p /root/dev/shm /root/dev/pts
/bin/busybox mount -t devpts pts /root/dev/pts
for fs in dev/shm run tmp; do /bin/busybox mount -t tmpfs tmpfs /root/$fs; done
/bin/busybox mount -t tracefs tracefs /root/sys/kernel/tracing
/bin/busybox ip link set lo up
/bin/busybox chroot /root /bin/sh -c "$(/bin/busybox cat /command)"
echo "exit code $?"
/bin/busybox poweroff -f
"""


class NotThere(Exception):
    """What the emulation needs is missing; the message names the package."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel package."""

    release: str
    image: Path
    modules: Path


def mirror() -> str:
    """Return the address of the Debian mirror that apt uses on this machine. Raises NotThere."""
    listing = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN)", "Created-By: Packages"]
    lines = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
    mirrors = [line.split()[0] for line in lines if line.endswith(" Debian") and "security" not in line]
    if not mirrors:
        raise NotThere("apt knows no mirror of Debian: its packages are needed here")
    return mirrors[0]


def _apt(suite: str) -> list[str]:
    """Return options of apt for Debian's `suite`, with lists of its own: this machine's sources stay as they are."""
    folder = CACHE / suite
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    source = f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror()} {suite} main\n"
    (folder / "sources.list").write_text(source)
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder,
        "APT::Sandbox::User": "root",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def kernel(suite: str, pattern: str) -> Kernel:
    """Return the newest kernel of Debian's `suite` whose package matches `pattern`; it is downloaded once. Raises NotThere."""
    for tool in ("apt-get", "dpkg-deb", "qemu-system-x86_64", "busybox"):
        if shutil.which(tool) is None:
            raise NotThere(f"{tool} is not there: apt install qemu-system-x86 busybox-static")
    folder = CACHE / suite / "kernel"
    if not folder.is_dir():
        options = _apt(suite)
        subprocess.run(["apt-get", *options, "-qq", "update"], check=True)
        names = subprocess.run(
            ["apt-cache", *options, "pkgnames", "linux-image-"], capture_output=True, text=True, check=True
        ).stdout.split()
        matching = [name for name in names if re.fullmatch(pattern, name)]
        if not matching:
            raise NotThere(f"Debian's {suite} has no package {pattern}")
        package = max(matching, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
        subprocess.run(["apt-get", *options, "-qq", "download", package], cwd=folder.parent, check=True)
        archive = next(folder.parent.glob(f"{package}_*.deb"))
        part = folder.with_suffix(".part")
        subprocess.run(["dpkg-deb", "-x", archive, part], check=True)
        part.rename(folder)
        archive.unlink()
    base = folder if (folder / "lib" / "modules").is_dir() else folder / "usr"
    modules = next((base / "lib" / "modules").iterdir())
    return Kernel(modules.name, folder / "boot" / f"vmlinuz-{modules.name}", modules)


def _content(module: Path) -> bytes:
    return lzma.decompress(module.read_bytes()) if module.suffix == ".xz" else module.read_bytes()


def _in_order(kernel: Kernel, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each module of `wanted`, after those it depends on; built-in ones are left out."""
    files = {path.name.split(".")[0].replace("-", "_"): path for path in kernel.modules.rglob("*.ko*")}
    names_done: set[str] = set()

    def visit(name: str) -> Iterator[tuple[str, bytes]]:
        if name in names_done or name not in files:
            return
        names_done.add(name)
        content = _content(files[name])
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for dependency in (depends[1].decode() if depends else "").split(","):
            yield from visit(dependency.replace("-", "_"))
        yield name, content

    for name in names:
        yield from visit(name)


def initramfs(kernel: Kernel, command: str, folder: Path) -> Path:
    """Return an initramfs, made in `folder`, that runs the shell `command` on this machine's file system and powers off."""
    root = folder / "initramfs"
    (root / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin" / "busybox")
    loaded = []
    for name, content in _in_order(kernel, MODULES):
        (root / f"{name}.ko").write_bytes(content)
        loaded.append(f"/{name}.ko\n")
    (root / "modules.list").write_text("".join(loaded))
    (root / "command").write_text(command)
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    archive = folder / "initramfs.cpio"
    names = "\n".join(str(path.relative_to(root)) for path in root.rglob("*"))
    with archive.open("wb") as out:
        subprocess.run(
            ["busybox", "cpio", "-o", "-H", "newc"],
            input=names.encode(),
            cwd=root,
            stdout=out,
            check=True,
            stderr=subprocess.DEVNULL,
        )
    return archive


def run(kernel: Kernel, command: str, folder: Path, console: Path, deadline_s: float) -> None:
    """Boot, run the shell `command` in the machine, and write what it prints to `console`.

    `folder` is for what is needed meanwhile. Raises subprocess.TimeoutExpired, the machine being off then.
    """
    arguments = [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MB),
        "-kernel", str(kernel.image), "-initrd", str(initramfs(kernel, command, folder)),
        "-append", "console=ttyS0 quiet panic=-1 mitigations=off", "-no-reboot",
        "-nographic", "-monitor", "none", "-nic", "none",
        "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
    ]  # fmt: skip
    with console.open("wb") as out:
        subprocess.run(
            arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, timeout=deadline_s, check=False
        )
