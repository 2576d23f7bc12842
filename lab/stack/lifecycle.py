"""Bringing a stack up, taking it down, and saying how it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvtrace.lab.client import DEFAULT_RELEASE
from cvtrace.lab.errors import LabError
from cvtrace.lab.stack import clients, models, mounts, origin, processes
from cvtrace.lab.stack.state import FQRN, Options, Stack, StateFolder, default_state

Say = Callable[[str], None]


@dataclass(frozen=True)
class Status:
    """How a stack is: up, down, or damaged, with what is wrong."""

    stack: Stack | None
    """As it was brought up; None when it is down."""
    problems: tuple[str, ...] = ()
    """One sentence each; empty when it is up and well."""

    @property
    def up(self) -> bool:
        """Everything answers."""
        return self.stack is not None and not self.problems


def _quiet(_: str) -> None:
    pass


def up(options: Options | None = None, *, state: Path | None = None, say: Say = _quiet) -> Stack:
    """Bring everything up and return it; does nothing when it is up, and mends what a crash left.

    Raises LabError when it is up with other options, or cannot be brought up; nothing is left running then.
    """
    options = options or Options()
    folder = StateFolder(state or default_state())
    client_name = clients.find(options.client if options.like == DEFAULT_RELEASE else options.client_of_release())
    with folder.locked():
        remembered = folder.read()
        if _status(folder).up:
            _check_same(remembered, options)
            say("the lab is already up")
            return _stack(remembered)
        if remembered or mounts.filesystem_type(_fallback(folder)) is not None:
            say("repairing what an earlier lab left")
        _clean(folder, force=True)
        try:
            return _bring_up(folder, options, client_name, say)
        except BaseException:
            _clean(folder, force=True)
            raise


def down(*, state: Path | None = None, purge: bool = False, force: bool = False) -> bool:
    """Unmount, stop everything, remove what was made for the mount; return whether anything was up.

    `purge` removes the state folder too: models, repository and cache. `force` unmounts even while the mount is used.
    Raises LabError while it is used, leaving it up.
    """
    folder = StateFolder(state or default_state())
    if not folder.path.is_dir():
        return False
    with folder.locked():
        was_up = bool(folder.read())
        _clean(folder, force=force)
        if purge:
            shutil.rmtree(folder.path)
    return was_up


def status(*, state: Path | None = None) -> Status:
    """Say how the stack is; changes nothing and waits for nobody."""
    return _status(StateFolder(state or default_state()))


def _status(folder: StateFolder) -> Status:
    remembered = folder.read()
    if not remembered:
        return Status(None)
    if "client_pid" not in remembered:
        return Status(None, ("an earlier `lab up` did not finish",))
    stack = _stack(remembered)
    problems = []
    if origin.status(folder) is None:
        problems.append(f"the origin (pid {stack.origin_pid}) does not answer")
    if mounts.filesystem_type(stack.mountpoint) is None:
        problems.append(f"nothing is mounted on {stack.mountpoint}")
    elif not mounts.answers(stack.mountpoint):
        problems.append(f"the client (pid {stack.client_pid}) is gone and left a dead mount on {stack.mountpoint}")
    return Status(stack, tuple(problems))


def _check_same(remembered: dict[str, Any], options: Options) -> None:
    before, now = remembered["options"], options.to_json()
    changes = [f"{key} {before.get(key)}, not {value}" for key, value in now.items() if before.get(key) != value]
    if changes:
        raise LabError(f"the lab is up with {'; '.join(changes)}: run `cvtrace lab down` first")


def _bring_up(folder: StateFolder, options: Options, client_name: str, say: Say) -> Stack:
    models.prepare(folder, options, say)
    mountpoint = mounts.choose(options.mount, FQRN, folder.path)
    folder.remember(options=options.to_json(), mountpoint=str(mountpoint))
    folder.remember(made=mounts.make(mountpoint))
    say("starting the origin")
    reply = origin.start(folder, options)
    own_cache = folder.path / (
        "cache" if client_name == clients.LAB else "cache-cvmfs2"
    )  # each client has its own book-keeping
    cache = Path(options.cache or own_cache).absolute()
    settings = clients.MountSettings(
        fqrn=FQRN,
        mountpoint=mountpoint,
        url=reply["url"],
        key=folder.store / "keys" / f"{FQRN}.pub",
        cache=cache,
        quota_bytes=options.quota_bytes,
        state=folder.path,
        like=options.like,
    )
    folder.remember(
        origin_pid=reply["pid"], url=reply["url"], client=client_name, cache=str(cache), folder=str(folder.path)
    )
    say(f"mounting {mountpoint} with {'the lab client' if client_name == clients.LAB else client_name}")
    remember_client(folder, clients.mount(client_name, settings))
    return _stack(folder.read())


def remember_client(folder: StateFolder, pid: int) -> None:
    """Remember the daemon so that it is not mistaken for a later process of the same number."""
    folder.remember(client_pid=pid, client_started=processes.start_time(pid))


def mount_settings(stack: Stack) -> clients.MountSettings:
    """Return how the stack's repository is mounted."""
    return clients.MountSettings(
        fqrn=stack.fqrn,
        mountpoint=stack.mountpoint,
        url=stack.url,
        key=stack.key,
        cache=stack.workspace.parent,
        quota_bytes=stack.quota_bytes,
        state=stack.state,
        like=stack.like,
    )


def _stack(remembered: dict[str, Any]) -> Stack:
    folder = StateFolder(Path(remembered["folder"]))
    mountpoint = Path(remembered["mountpoint"])
    options = remembered["options"]
    model_options = Options(size_bytes=options["size_bytes"], mapped_too=options["mapped_too"])
    return Stack(
        fqrn=FQRN,
        mountpoint=mountpoint,
        url=remembered["url"],
        origin_pid=remembered["origin_pid"],
        client=remembered["client"],
        client_pid=remembered["client_pid"],
        workspace=Path(remembered["cache"]) / FQRN,
        access_log=folder.access_log,
        control=folder.control,
        state=folder.path,
        store=folder.store,
        key=folder.store / "keys" / f"{FQRN}.pub",
        quota_bytes=options["quota_bytes"],
        like=options.get("like", DEFAULT_RELEASE),
        models={
            name: mountpoint / models.FOLDER.lstrip("/") / name for name in models.parameters_by_model(model_options)
        },
    )


def _fallback(folder: StateFolder) -> Path:
    return folder.path / "mnt" / FQRN


def _clean(folder: StateFolder, *, force: bool) -> None:
    """Unmount and stop whatever of the stack is there, in whatever state, and forget it."""
    remembered = folder.read()
    mountpoint = Path(remembered.get("mountpoint", _fallback(folder)))
    pid = int(remembered.get("client_pid", 0))
    if pid and processes.start_time(pid) != remembered.get("client_started"):
        pid = 0
    clients.unmount(mountpoint, pid, force=force)
    origin.stop(folder)
    mounts.unmake(remembered.get("made", []))
    folder.forget()
