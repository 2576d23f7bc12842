"""Bringing a stack up, taking it down, and saying how it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvtrace.lab.errors import LabError
from cvtrace.lab.stack import clients, models, mounts, origin, processes
from cvtrace.lab.stack.state import FQRN, Options, Stack, State, default_state

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
    kept = State(state or default_state())
    which = clients.find(options.client)
    with kept.locked():
        remembered = kept.read()
        if _status(kept).up:
            _check_same(remembered, options)
            say("the lab is already up")
            return _stack(remembered)
        if remembered or mounts.kind(_fallback(kept)) is not None:
            say("mending what is left of an earlier lab")
        _clean(kept, force=True)
        try:
            return _bring_up(kept, options, which, say)
        except BaseException:
            _clean(kept, force=True)
            raise


def down(*, state: Path | None = None, purge: bool = False, force: bool = False) -> bool:
    """Unmount, stop everything, remove what was made for the mount; return whether anything was up.

    `purge` removes the state folder too: models, repository and cache. `force` unmounts even while the mount is used.
    Raises LabError while it is used, leaving it up.
    """
    kept = State(state or default_state())
    if not kept.folder.is_dir():
        return False
    with kept.locked():
        was_up = bool(kept.read())
        _clean(kept, force=force)
        if purge:
            shutil.rmtree(kept.folder)
    return was_up


def status(*, state: Path | None = None) -> Status:
    """Say how the stack is; changes nothing and waits for nobody."""
    return _status(State(state or default_state()))


def _status(kept: State) -> Status:
    remembered = kept.read()
    if not remembered:
        return Status(None)
    if "client_pid" not in remembered:
        return Status(None, ("an earlier `lab up` did not come to its end",))
    stack = _stack(remembered)
    problems = []
    if origin.answer(kept) is None:
        problems.append(f"the origin (pid {stack.origin_pid}) does not answer")
    if mounts.kind(stack.mountpoint) is None:
        problems.append(f"nothing is mounted on {stack.mountpoint}")
    elif not mounts.answers(stack.mountpoint):
        problems.append(f"the client (pid {stack.client_pid}) is gone and left a dead mount on {stack.mountpoint}")
    return Status(stack, tuple(problems))


def _check_same(remembered: dict[str, Any], options: Options) -> None:
    before, now = remembered["options"], options.to_json()
    other = [f"{key} {before.get(key)}, not {value}" for key, value in now.items() if before.get(key) != value]
    if other:
        raise LabError(f"the lab is up with {'; '.join(other)}: run `cvtrace lab down` first")


def _bring_up(kept: State, options: Options, which: str, say: Say) -> Stack:
    models.prepare(kept, options, say)
    mountpoint = mounts.choose(options.mount, FQRN, kept.folder)
    kept.remember(options=options.to_json(), mountpoint=str(mountpoint))
    kept.remember(made=mounts.make(mountpoint))
    say("starting the origin")
    said = origin.start(kept, options)
    own_cache = kept.folder / (
        "cache" if which == clients.LAB else "cache-cvmfs2"
    )  # each client has its own book-keeping
    cache = Path(options.cache or own_cache).absolute()
    wanted = clients.Mount(
        fqrn=FQRN,
        mountpoint=mountpoint,
        url=said["url"],
        key=kept.store / "keys" / f"{FQRN}.pub",
        cache=cache,
        quota_bytes=options.quota_bytes,
        state=kept.folder,
    )
    kept.remember(origin_pid=said["pid"], url=said["url"], client=which, cache=str(cache), folder=str(kept.folder))
    say(f"mounting {mountpoint} with {'the lab client' if which == clients.LAB else which}")
    remember_client(kept, clients.mount(which, wanted))
    return _stack(kept.read())


def remember_client(kept: State, pid: int) -> None:
    """Remember the daemon so that it is not mistaken for a later process of the same number."""
    kept.remember(client_pid=pid, client_started=processes.start_time(pid))


def wanted_mount(stack: Stack) -> clients.Mount:
    """Return how the stack's repository is mounted."""
    return clients.Mount(
        fqrn=stack.fqrn,
        mountpoint=stack.mountpoint,
        url=stack.url,
        key=stack.key,
        cache=stack.workspace.parent,
        quota_bytes=stack.quota_bytes,
        state=stack.state,
    )


def _stack(remembered: dict[str, Any]) -> Stack:
    kept = State(Path(remembered["folder"]))
    mountpoint = Path(remembered["mountpoint"])
    options = remembered["options"]
    asked = Options(size_bytes=options["size_bytes"], mapped_too=options["mapped_too"])
    return Stack(
        fqrn=FQRN,
        mountpoint=mountpoint,
        url=remembered["url"],
        origin_pid=remembered["origin_pid"],
        client=remembered["client"],
        client_pid=remembered["client_pid"],
        workspace=Path(remembered["cache"]) / FQRN,
        access_log=kept.access_log,
        control=kept.control,
        state=kept.folder,
        store=kept.store,
        key=kept.store / "keys" / f"{FQRN}.pub",
        quota_bytes=options["quota_bytes"],
        models={name: mountpoint / models.FOLDER.lstrip("/") / name for name in models.wanted(asked)},
    )


def _fallback(kept: State) -> Path:
    return kept.folder / "mnt" / FQRN


def _clean(kept: State, *, force: bool) -> None:
    """Unmount and stop whatever of the stack is there, in whatever state, and forget it."""
    remembered = kept.read()
    mountpoint = Path(remembered.get("mountpoint", _fallback(kept)))
    pid = int(remembered.get("client_pid", 0))
    if pid and processes.start_time(pid) != remembered.get("client_started"):
        pid = 0
    clients.unmount(mountpoint, pid, force=force)
    origin.stop(kept)
    mounts.unmake(remembered.get("made", []))
    kept.forget()
