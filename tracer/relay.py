"""Between the terminal and pipes of the caller, and a target that must not have them.

A descriptor of a terminal lets its holder type into it (TIOCSTI), and one of a file lets it read, cut or lock the file. So a
target of another user gets a terminal of its own where the caller has one, and pipes for the rest; a process of root's
without any capability copies between the two, as ssh does. It outlives the recorder, so that a script whose recorder was killed
goes on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import stat
import termios
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from cvtrace.probes.capabilities import keep_only
from cvtrace.tracer.user import User

PIECE: Final = 4096
"""A pipe that is ready takes so much without waiting (pipe(7), PIPE_BUF)."""
ANSWER_S: Final = 2.0
IDLE_S: Final = 0.05
"""After the target's end, what it wrote has come when nothing came for so long."""
PENDING_S: Final = 1.0
"""How long a target that does not stop writing may delay that the caller gets the terminal back; less than ANSWER_S."""
LOOK_AGAIN_MS: Final = 200
"""How often a job in the background looks whether it is in the foreground."""
IGNORED: Final = (
    *(signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
    *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
)


@dataclass
class Flow:
    """What is copied from one descriptor to another."""

    source: int
    sink: int
    inward: bool
    """Whether towards the target."""
    waiting: bytes = b""
    ended: bool = False


class Relay:
    """The caller's streams, and those that the target gets in their place."""

    def __init__(self, user: User, streams: tuple[bool, bool, bool]) -> None:
        """Start the process that copies; `streams` says which of the three streams the caller has."""
        self.ends: dict[int, int] = {}
        """Descriptor of the target for each of its streams that is open."""
        self.terminal: int | None = None
        self._flows: list[Flow] = []
        self._leader: int | None = None
        self._control: socket.socket | None = None
        self._pid = 0
        for stream in (number for number in range(3) if streams[number]):
            self._connect(stream, user)
        if self._leader is not None and not any(flow.source == self._leader for flow in self._flows):
            self._flows.append(Flow(self._leader, 0, inward=False))  # what is typed is shown, wherever output goes
        self._fork()

    def _connect(self, stream: int, user: User) -> None:
        status = os.fstat(stream)
        if os.isatty(stream):
            self.ends[stream] = self._terminal_for(user)
            if stream == 0:
                self._flows.append(Flow(0, self._leader_fd, inward=True))
            elif not any(flow.source == self._leader for flow in self._flows):
                self._flows.append(Flow(self._leader_fd, stream, inward=False))
        elif stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3):
            self.ends[stream] = os.open(os.devnull, os.O_RDONLY if stream == 0 else os.O_WRONLY)
        elif stream == 2 and 1 in self.ends and os.path.samestat(status, os.fstat(1)):
            self.ends[2] = os.dup(self.ends[1])  # one pipe for both keeps the order of what is written
        else:
            reading, writing = os.pipe()
            inward = stream == 0
            self.ends[stream] = reading if inward else writing
            self._flows.append(Flow(stream, writing, True) if inward else Flow(reading, stream, False))

    @property
    def _leader_fd(self) -> int:
        assert self._leader is not None
        return self._leader

    def _terminal_for(self, user: User) -> int:
        """Return a descriptor of the target's terminal, which is made like the caller's the first time."""
        if self.terminal is None:
            self._leader, self.terminal = os.openpty()
            os.fchown(self.terminal, user.uid, -1)
        return os.dup(self.terminal)

    def _fork(self) -> None:
        self._control, control_of_child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._control.close()
                for end in self._target_ends():
                    os.close(end)
                Copying(self._flows, self._leader, control_of_child).run()
            finally:
                os._exit(0)
        control_of_child.close()
        for flow in self._flows:
            for end in (flow.source, flow.sink):
                if end > 2 and end != self._leader:
                    os.close(end)
        if self._leader is not None:
            os.close(self._leader)

    def _target_ends(self) -> list[int]:
        return [*self.ends.values(), *([] if self.terminal is None else [self.terminal])]

    def enter(self) -> None:
        """Give the streams to this process, the leader of a new session, and its session the terminal."""
        if self.terminal is not None:
            fcntl.ioctl(self.terminal, termios.TIOCSCTTY, 0)
        for stream in range(3):
            with contextlib.suppress(OSError):
                os.close(stream)
        for stream, end in self.ends.items():
            os.dup2(end, stream)

    def begin(self) -> None:
        """Copy from now on; the target has its ends, and this process needs them no more."""
        for end in self._target_ends():
            os.close(end)
        self.ends, self.terminal = {}, None
        self._ask(b"begin")

    def suspend(self) -> None:
        """Give the caller's terminal back for a while."""
        self._ask(b"suspend")

    def resume(self) -> None:
        """Take the caller's terminal again, if it is ours to take."""
        self._ask(b"resume")

    def end(self) -> None:
        """Copy what the target has written, give the terminal back, and end."""
        if self._control is None:
            return
        for end in self._target_ends():  # it never began
            os.close(end)
        self.ends, self.terminal = {}, None
        self._ask(b"end")
        self._control.close()
        self._control = None
        deadline_s = time.monotonic() + ANSWER_S
        while os.waitpid(self._pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline_s:
            time.sleep(0.001)

    def leave(self) -> None:
        """Give the terminal back, and let the target write for as long as it lives."""
        self._ask(b"suspend")
        if self._control is not None:
            self._control.close()
            self._control = None

    def _ask(self, what: bytes) -> None:
        """Tell the copying process, and wait until it has done it; one that is gone has nothing to do."""
        if self._control is None:
            return
        with contextlib.suppress(OSError):
            self._control.send(what)
            if select.select([self._control], [], [], ANSWER_S if what != b"end" else None)[0]:
                self._control.recv(16)


class Copying:
    """The process that copies. It may do nothing but read and write what it has open."""

    def __init__(self, flows: list[Flow], leader: int | None, control: socket.socket) -> None:
        self._flows = flows
        self._leader = leader
        self._control = control
        self._keyboard = next((flow for flow in flows if flow.source == 0 and flow.sink == leader), None)
        self._screen = next((flow.sink for flow in flows if flow.source == leader), 0)
        self._before: list[Any] | None = None
        """How the caller's terminal was set before it was made raw."""
        self._begun = False
        self._running = False
        self._ending = False
        self._heard_s = time.monotonic()

    def run(self) -> None:
        """Copy until the target is gone, or the recorder says that it is."""
        os.set_inheritable(self._control.fileno(), False)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        reading, writing = os.pipe2(os.O_NONBLOCK)
        for number in (signal.SIGWINCH, signal.SIGCONT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._close_all_but(reading, writing)
        keep_only(())
        if self._leader is not None:
            self._take_on_settings()
        try:
            while self._step(reading):
                pass
        finally:
            self._give_back()

    def _close_all_but(self, *descriptors: int) -> None:
        keep_open = {0, 1, 2, *descriptors, self._control.fileno()}
        keep_open |= {end for flow in self._flows for end in (flow.source, flow.sink)}
        if self._leader is not None:
            keep_open.add(self._leader)
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
            if int(name) not in keep_open:
                with contextlib.suppress(OSError):
                    os.close(int(name))

    def _step(self, woken: int) -> bool:
        """Wait and copy once; return whether to go on."""
        events = self._poll_events(self._flows)
        events[woken] = select.POLLIN
        if self._control.fileno() >= 0:
            events[self._control.fileno()] = select.POLLIN
        ready = _wait(events, self._patience_ms())
        if woken in ready:
            os.read(woken, PIECE)
            self._look_at_terminal()
        if self._control.fileno() in ready:
            self._obey()
        for flow in self._flows:
            self._copy(flow, ready)
        if self._keyboard is not None and self._running and self._before is None:
            self._take()
        return not self._is_over()

    def _poll_events(self, flows: list[Flow]) -> dict[int, int]:
        """Return what to wait for; the terminal of the target is read and written."""
        events: dict[int, int] = {}
        for flow in flows:
            if flow.waiting:
                events[flow.sink] = events.get(flow.sink, 0) | select.POLLOUT
            elif not flow.ended and self._may_read(flow):
                events[flow.source] = events.get(flow.source, 0) | select.POLLIN
        return events

    def _may_read(self, flow: Flow) -> bool:
        if not self._begun or (not self._running and flow.inward):  # the terminal is to be set before it is written to
            return False
        return flow is not self._keyboard or self._before is not None

    def _patience_ms(self) -> int | None:
        if self._ending:
            return int(IDLE_S * 1000)
        if self._keyboard is not None and self._running and self._before is None:
            return LOOK_AGAIN_MS
        return None

    def _is_over(self) -> bool:
        outward = [flow for flow in self._flows if not flow.inward]
        if all(flow.ended and not flow.waiting for flow in outward) and (self._ending or self._control.fileno() < 0):
            return True
        waiting = any(flow.waiting for flow in outward)  # for a pager, say, that will read it some day
        return self._ending and not waiting and time.monotonic() - self._heard_s > IDLE_S

    def _obey(self) -> None:
        try:
            message = self._control.recv(16)
        except OSError:
            message = b""
        self._begun = True
        if not message:  # the recorder is gone: the target goes on until it ends, and who called gets a prompt
            self._control.close()
            self._running = False
            self._copy_pending()
            self._give_back()
            return
        if message == b"end":
            self._ending, self._heard_s = True, time.monotonic()
            self._finish()
        self._running = message in (b"begin", b"resume")
        if self._running:
            self._look_at_terminal()
            self._take()
        else:
            self._copy_pending()
            self._give_back()
        self._control.send(b"done")

    def _copy_pending(self) -> None:
        """Copy what the target wrote to its terminal so far. With its own settings, the caller's terminal would add a carriage return to each line."""
        if self._before is None:
            return
        flows = [flow for flow in self._flows if flow.source == self._leader]
        deadline_s = time.monotonic() + PENDING_S
        while time.monotonic() < deadline_s and (ready := _wait(self._poll_events(flows), int(IDLE_S * 1000))):
            for flow in flows:
                self._copy(flow, ready)

    def _finish(self) -> None:
        """Copy the rest before the recorder goes on: it has more to say on the same terminal."""
        self._running = False
        outward = [flow for flow in self._flows if not flow.inward]
        while not self._is_over():
            ready = _wait(self._poll_events(outward), int(IDLE_S * 1000))
            for flow in outward:
                self._copy(flow, ready)

    def _copy(self, flow: Flow, ready: dict[int, int]) -> None:
        try:
            if flow.waiting:
                if ready.get(flow.sink, 0) & ~select.POLLIN:
                    flow.waiting = flow.waiting[os.write(flow.sink, flow.waiting) :]
                    self._heard_s = time.monotonic()
                return
            if not flow.ended and ready.get(flow.source, 0) & ~select.POLLOUT and self._may_read(flow):
                flow.waiting = os.read(flow.source, PIECE)
                self._heard_s = time.monotonic()
                if not flow.waiting:
                    self._close(flow)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR):
                return
            if flow is self._keyboard and flow.source in ready and not self._is_in_foreground():
                self._before = None  # another job has the terminal now, and has set it as it likes
                return
            self._close(flow)

    def _close(self, flow: Flow) -> None:
        """End a flow: the other side learns it as it would without us, by the end of a file or a broken pipe."""
        flow.ended, flow.waiting = True, b""
        end = flow.sink if flow.inward else flow.source
        if end != self._leader or flow.source == 0:
            with contextlib.suppress(OSError):
                os.close(end)
        if end == self._leader:
            for other in self._flows:
                other.ended = other.ended or self._leader in (other.source, other.sink)

    def _look_at_terminal(self) -> None:
        """Give the target's terminal the size of the caller's; its foreground job is told by the kernel."""
        if self._leader is not None:
            with contextlib.suppress(OSError):
                size = fcntl.ioctl(self._screen, termios.TIOCGWINSZ, bytes(8))
                if size != fcntl.ioctl(self._leader, termios.TIOCGWINSZ, bytes(8)):
                    fcntl.ioctl(self._leader, termios.TIOCSWINSZ, size)

    def _take_on_settings(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            assert self._leader is not None
            termios.tcsetattr(self._leader, termios.TCSANOW, termios.tcgetattr(self._screen))
        self._look_at_terminal()

    def _take(self) -> None:
        """Let every key reach the target's terminal, Ctrl-C as well, if ours is the job in the foreground."""
        if self._keyboard is None or self._before is not None or self._keyboard.ended:
            return
        with contextlib.suppress(OSError, termios.error):
            if self._is_in_foreground():
                self._before = termios.tcgetattr(0)
                raw = termios.tcgetattr(0)
                _make_raw(raw)
                if not (os.isatty(1) and os.isatty(2)):  # others write to it: their lines are to begin at its left
                    raw[tty.OFLAG] |= termios.OPOST
                termios.tcsetattr(0, termios.TCSADRAIN, raw)

    @staticmethod
    def _is_in_foreground() -> bool:
        try:
            return os.tcgetpgrp(0) == os.getpgrp()
        except OSError:  # not this session's terminal, so there is no job control on it
            return True

    def _give_back(self) -> None:
        if self._before is not None:
            before, self._before = self._before, None
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(0, termios.TCSADRAIN, before)


def _make_raw(settings: list[Any]) -> None:
    """Let every byte pass as it is (termios(3), cfmakeraw)."""
    settings[tty.IFLAG] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
    settings[tty.IFLAG] &= ~(termios.IGNBRK | termios.PARMRK | termios.INLCR | termios.IGNCR)
    settings[tty.OFLAG] &= ~termios.OPOST
    settings[tty.CFLAG] = settings[tty.CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    settings[tty.LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN | termios.ISIG)
    settings[tty.CC][termios.VMIN], settings[tty.CC][termios.VTIME] = 1, 0


def _wait(events_of: dict[int, int], patience_ms: int | None) -> dict[int, int]:
    waiting = select.poll()
    for fd, events in events_of.items():
        waiting.register(fd, events)
    return dict(waiting.poll(patience_ms))


@contextlib.contextmanager
def relayed(user: User, streams: tuple[bool, bool, bool]) -> Iterator[Relay]:
    """Give a relay; its process ends with the block."""
    relay = Relay(user, streams)
    try:
        yield relay
    finally:
        relay.end()
