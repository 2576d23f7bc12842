"""The download thread: one for everybody, as in the client, driven by libcurl's socket interface.

A worker writes the address of its job, 8 bytes, to a pipe and reads the outcome, 4 bytes, from a pipe of its own. The thread
polls that pipe together with its sockets; what arrives is inflated, hashed and written to the sink right there.
"""

from __future__ import annotations

import os
import select
import struct
import threading
import time
from enum import IntEnum
from typing import Final

import pycurl

from cvtrace.lab.client.counters import Counters
from cvtrace.lab.client.delays import DelayInjector
from cvtrace.lab.client.job import Job
from cvtrace.lab.client.threads import start_thread
from cvtrace.lab.client.transfer import Transfer

MAX_CONNECTIONS: Final = 16

_ADDRESS: Final = struct.Struct("<Q")
_OUTCOME: Final = struct.Struct("<i")


class Failure(IntEnum):
    """How a download ended, in the client's numbering (network_errors.h)."""

    OK = 0
    LOCAL_IO = 1
    BAD_URL = 2
    PROXY_RESOLVE = 3
    HOST_RESOLVE = 4
    HOST_CONNECTION = 7
    HOST_HTTP = 9
    BAD_DATA = 10
    OTHER = 12
    HOST_TOO_SLOW = 15
    HOST_SHORT = 17
    CANCELLED = 18


PERMANENT: Final = frozenset({Failure.LOCAL_IO, Failure.BAD_URL, Failure.CANCELLED})

_CURL_FAILURES: Final = {
    pycurl.E_URL_MALFORMAT: Failure.BAD_URL,
    pycurl.E_UNSUPPORTED_PROTOCOL: Failure.BAD_URL,
    pycurl.E_COULDNT_RESOLVE_PROXY: Failure.PROXY_RESOLVE,
    pycurl.E_COULDNT_RESOLVE_HOST: Failure.HOST_RESOLVE,
    pycurl.E_COULDNT_CONNECT: Failure.HOST_CONNECTION,
    pycurl.E_GOT_NOTHING: Failure.HOST_CONNECTION,
    pycurl.E_SEND_ERROR: Failure.HOST_CONNECTION,
    pycurl.E_RECV_ERROR: Failure.HOST_CONNECTION,
    pycurl.E_HTTP_RETURNED_ERROR: Failure.HOST_HTTP,
    pycurl.E_PARTIAL_FILE: Failure.HOST_SHORT,
    pycurl.E_OPERATION_TIMEDOUT: Failure.HOST_TOO_SLOW,
}


class Downloader:
    """Starts the download thread and hands it jobs.

    `proxy` is "DIRECT" or a URL. A failed transfer is tried again `max_retries` times, after `backoff_s[0]` seconds, doubled each time
    up to `backoff_s[1]`; while it waits, other transfers go on.
    """

    def __init__(
        self,
        base_url: str,
        counters: Counters,
        injector: DelayInjector,
        *,
        user_agent: str,
        proxy: str = "DIRECT",
        max_retries: int = 1,
        backoff_s: tuple[float, float] = (2.0, 10.0),
        timeout_s: int = 10,
    ) -> None:
        self.base_url = base_url
        self.proxy = proxy
        self.timeout_s = timeout_s
        self._user_agent = user_agent
        self._max_retries = max_retries
        self._backoff_s = backoff_s
        self._counters = counters
        self._injector = injector
        self._jobs: dict[int, Job] = {}
        self._reply_pipes: list[tuple[int, int]] = []
        self._stop_reader, self._stop_writer = os.pipe()
        self._job_reader, self._job_writer = os.pipe()
        self._thread: threading.Thread | None = None
        self._stopped = False
        """Whether the thread takes no job any more."""

    def start(self) -> None:
        """Start the thread."""
        self._thread = start_thread(self._run)

    def stop(self) -> None:
        """End the thread; jobs that are not done, taken or still in the pipe, are reported as cancelled, and so are later ones."""
        if self._thread is not None:
            os.write(self._stop_writer, _OUTCOME.pack(1))
            self._thread.join(timeout=5)

    def download(self, job: Job) -> Failure:
        """Hand a job to the thread and wait for its end."""
        try:
            pipe = self._reply_pipes.pop()
        except IndexError:
            pipe = os.pipe()
        job.reply = pipe[1]
        job.handed_ns = time.monotonic_ns()
        address = id(job)
        self._jobs[address] = job
        os.write(self._job_writer, _ADDRESS.pack(address))
        if self._stopped and self._jobs.pop(address, None) is not None:  # nobody else has taken it
            self._reply_pipes.append(pipe)
            return Failure.CANCELLED
        failure = Failure(_OUTCOME.unpack(os.read(pipe[0], _OUTCOME.size))[0])
        self._reply_pipes.append(pipe)
        return failure

    # What follows runs in the download thread.

    def _run(self) -> None:
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, MAX_CONNECTIONS)
        self._multi.setopt(pycurl.M_MAXCONNECTS, MAX_CONNECTIONS)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._poll = select.poll()
        self._poll.register(self._stop_reader, select.POLLIN | select.POLLPRI)
        self._poll.register(self._job_reader, select.POLLIN | select.POLLPRI)
        self._idle: list[Transfer] = []
        self._running: dict[pycurl.Curl, Transfer] = {}
        self._waiting: list[Job] = []
        self._timer_at_s: float | None = None
        self._busy_since_s = 0.0
        while self._turn():
            pass
        for job in [*self._waiting, *(transfer.job for transfer in self._running.values())]:
            self._answer(job, Failure.CANCELLED)
        self._stopped = True
        # Jobs may still be in the pipe: their workers wait for an answer, too. Who writes from now on sees `_stopped`.
        in_pipe = select.poll()
        in_pipe.register(self._job_reader, select.POLLIN)
        while in_pipe.poll(0):
            pending = self._jobs.pop(self._next_address(), None)
            if pending is not None:  # else its worker has taken it back
                self._answer(pending, Failure.CANCELLED)

    def _turn(self) -> bool:
        for fd, events in self._poll.poll(self._poll_timeout_ms()):
            if fd == self._stop_reader:
                return False
            if fd == self._job_reader:
                self._take_job()
            else:
                self._multi.socket_action(fd, _curl_events(events))
        now_s = time.monotonic()
        if self._timer_at_s is not None and now_s >= self._timer_at_s:
            self._timer_at_s = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        for job in [job for job in self._waiting if job.retry_at_s <= now_s]:
            self._waiting.remove(job)
            self._begin(job)
        self._finish_transfers()
        return True

    def _poll_timeout_ms(self) -> float | None:
        deadlines = [job.retry_at_s for job in self._waiting]
        if self._timer_at_s is not None:
            deadlines.append(self._timer_at_s)
        if not deadlines:
            return None
        return max(0.0, (min(deadlines) - time.monotonic()) * 1000)

    def _next_address(self) -> int:
        (address,) = _ADDRESS.unpack(os.read(self._job_reader, _ADDRESS.size))
        return int(address)

    def _take_job(self) -> None:
        address = self._next_address()
        self._injector.take()
        self._begin(self._jobs.pop(address))

    def _begin(self, job: Job) -> None:
        if not self._running:
            self._busy_since_s = time.monotonic()
        if self._idle:
            transfer = self._idle.pop()
        else:
            transfer = Transfer(self.proxy, self.timeout_s, self._user_agent, self._injector)
        job.attempts += 1
        self._counters.add("download.n_requests")  # each try, as the client does
        transfer.begin(self.base_url + job.path, job)
        self._running[transfer.curl] = transfer
        self._multi.add_handle(transfer.curl)
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def _finish_transfers(self) -> None:
        if not self._running:
            return
        _, succeeded, failed = self._multi.info_read()
        for curl in succeeded:
            self._finish(curl, Failure.OK)
        for curl, code, _ in failed:
            self._finish(curl, _CURL_FAILURES.get(code, Failure.OTHER))

    def _finish(self, curl: pycurl.Curl, failure: Failure) -> None:
        transfer = self._running.pop(curl)
        self._multi.remove_handle(curl)
        job = transfer.job
        times = (pycurl.CONNECT_TIME, pycurl.PRETRANSFER_TIME, pycurl.STARTTRANSFER_TIME, pycurl.TOTAL_TIME)
        connect_s, sent_s, first_s, last_s = (float(curl.getinfo(time)) for time in times)
        connected = bool(curl.getinfo(pycurl.NUM_CONNECTS))
        self._injector.transferred(
            job.path, job.handed_ns, transfer.begun_ns, connected, (connect_s, sent_s, first_s, last_s)
        )
        self._counters.add("download.sz_transferred_bytes", int(curl.getinfo(pycurl.SIZE_DOWNLOAD)))
        if not self._running:
            busy_s = time.monotonic() - self._busy_since_s
            self._counters.add("download.sz_transfer_time", round(1000 * busy_s))
        if transfer.local_error is not None:
            failure = Failure.LOCAL_IO
        elif failure is Failure.OK and curl.getinfo(pycurl.RESPONSE_CODE) // 100 != 2:
            failure = Failure.HOST_HTTP
        elif transfer.is_bad(complete=failure is Failure.OK):
            failure = Failure.BAD_DATA
        self._idle.append(transfer)
        if failure is Failure.OK or failure in PERMANENT or job.attempts > self._max_retries:
            self._answer(job, failure)
        else:
            self._retry(job)

    def _retry(self, job: Job) -> None:
        try:
            job.sink.reset()
        except OSError:
            self._answer(job, Failure.LOCAL_IO)
            return
        self._counters.add("download.n_retries")
        first_s, longest_s = self._backoff_s
        job.retry_at_s = time.monotonic() + min(longest_s, first_s * 2.0 ** (job.attempts - 1))
        self._waiting.append(job)

    def _answer(self, job: Job, failure: Failure) -> None:
        os.write(job.reply, _OUTCOME.pack(failure))

    def _watch(self, action: int, fd: int, multi: object, data: object) -> None:
        if action == pycurl.POLL_REMOVE:
            self._poll.unregister(fd)
            return
        events = 0
        if action in (pycurl.POLL_IN, pycurl.POLL_INOUT):
            events |= select.POLLIN | select.POLLPRI
        if action in (pycurl.POLL_OUT, pycurl.POLL_INOUT):
            events |= select.POLLOUT | select.POLLWRBAND
        self._poll.register(fd, events)

    def _set_timer(self, timeout_ms: int) -> None:
        self._timer_at_s = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000


def _curl_events(events: int) -> int:
    action = 0
    if events & (select.POLLIN | select.POLLPRI):
        action |= pycurl.CSELECT_IN
    if events & (select.POLLOUT | select.POLLWRBAND):
        action |= pycurl.CSELECT_OUT
    if events & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
        action |= pycurl.CSELECT_ERR
    return action
