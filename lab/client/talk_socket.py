"""The talk socket: a line in, an answer out, one connection after the other."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cvtrace.lab.client.counters import Counters
from cvtrace.lab.client.delays import DelayInjector, Delays
from cvtrace.lab.client.quota import Quota
from cvtrace.lab.client.threads import start_thread
from cvtrace.lab.errors import LabError

_LONGEST_COMMAND_BYTES: Final = 512
_MEBIBYTE: Final = 1 << 20


class TalkSocket:
    """Listens on `./cvmfs_io.<fqrn>` in the workspace."""

    def __init__(
        self, fqrn: str, revision: int, counters: Counters, quota: Quota, injector: DelayInjector, version: str
    ) -> None:
        self._injector = injector
        self._revision = revision
        self._counters = counters
        self._quota = quota
        self._commands: dict[str, Callable[[], str]] = {
            "internal affairs": self._internal_affairs,
            "pid": lambda: f"{os.getpid()}\n",
            "version": lambda: f"{version} (CernVM-FS Fuse Module)\n",
            "cache limit get": lambda: f"{quota.limit_bytes // _MEBIBYTE}\n",
            "revision": lambda: f"{revision}\n",
            "cache size": lambda: (
                f"Current cache size is {quota.used_bytes // _MEBIBYTE}MB ({quota.used_bytes} Bytes)\n"
            ),
        }
        self.path = Path(f"./cvmfs_io.{fqrn}")
        self.path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(f"./cvmfs_io.{fqrn}")
        self.path.chmod(0o660)
        self._socket.listen(1)

    def start(self) -> None:
        """Start answering."""
        start_thread(self._run)

    def close(self) -> None:
        """Remove the socket."""
        self.path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection, contextlib.suppress(OSError):
                line = connection.recv(_LONGEST_COMMAND_BYTES).decode("utf-8", "replace").rstrip("\0\n")
                connection.sendall(self._answer(line).encode())
                connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, line: str) -> str:
        command = self._commands.get(line)
        if command is not None:
            return command()
        word, _, argument = line.partition(" ")
        if word == "cleanup":
            if not argument.isdecimal():
                return "Usage: cleanup <MB>\n"
            return (
                "OK\n"
                if self._quota.cleanup(int(argument) * _MEBIBYTE)
                else "Not fully cleaned (there might be pinned chunks)\n"
            )
        if word == "inject":
            return self._inject(argument)
        return "unknown command\n"

    def _inject(self, argument: str) -> str:
        try:
            values = json.loads(argument or "{}")
            if not isinstance(values, dict):
                raise LabError("an injection is a JSON object")
            self._injector.set(Delays.from_json(values))
        except (LabError, ValueError) as error:
            return f"{error}\n"
        return "OK\n"

    def _internal_affairs(self) -> str:
        revision = f"init-catalog-revision: {self._revision}  current-catalog-revision: {self._revision}"
        return (
            f"Inode Generation:\n  {revision}  incarnation: 0  inode generation: 0\n"
            "\nCache Mode: read-write\nDrainout Mode: no\nMaintenance Mode: no\n"
            f"\nRaw Counters:\nName|Value|Description\n{self._counters.table()}"
        )
