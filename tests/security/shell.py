"""A terminal on which a program runs, and cvtrace with a script of another user on it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

from throwaway import Somebody
from waiting import DEADLINE_S

CVTRACE = [sys.executable, "-m", "cvtrace"]


def command(user: Somebody, mount: Path, *words: str, probes: str = "portable") -> list[str]:
    options = ["-o", "trace", "--force", "--no-summary", "--probes", probes, "--mount", str(mount)]
    return [*CVTRACE, "run", "--user", user.name, *options, "--", *words]


def run(user: Somebody, mount: Path, *words: str, **popen: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(user, mount, *words), **{"capture_output": True, "text": True, "timeout": 60, "check": False, **popen}
    )


class Shell:
    """A terminal on which a program of root's runs as the foreground job."""

    def __init__(self, *argv: str, env: dict[str, str] | None = None, user: Somebody | None = None) -> None:
        """Start it, as `user` on the user's terminal; the shell's prompt and its line editing are plain."""
        self.output = ""
        self.passed = 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            if user is not None:
                os.fchown(0, user.uid, -1)
                os.setgroups([])
                os.setresgid(user.gid, user.gid, user.gid)
                os.setresuid(user.uid, user.uid, user.uid)
            os.execvpe(argv[0], list(argv), {**os.environ, "PS1": "$ ", "TERM": "dumb", **(env or {})})

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def read_until(self, text: str) -> str:
        """Read until a text comes after what was waited for last; return what came up to its end."""
        begin, deadline_s = self.passed, time.monotonic() + DEADLINE_S
        while text not in self.output[begin:]:
            assert time.monotonic() < deadline_s, repr(self.output[begin:])
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.output += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:  # nobody has the terminal any more
                    assert text in self.output[begin:], self.output
        self.passed = self.output.index(text, begin) + len(text)
        return self.output[begin : self.passed]

    def settings(self) -> list[object]:
        return termios.tcgetattr(self.fd)[:4]

    def passes_every_key(self) -> bool:
        """Return whether Ctrl-C and Ctrl-Z reach a program as bytes: cvtrace relays them to the script's terminal."""
        return not termios.tcgetattr(self.fd)[3] & termios.ISIG

    def end(self) -> int:
        """Read what comes until it ends; return its exit code."""
        while select.select([self.fd], [], [], DEADLINE_S)[0]:
            try:
                self.output += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                break
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return code
