"""One HTTP transfer: an easy handle of libcurl, and what is done with each piece that arrives."""

from __future__ import annotations

import os
import time
import zlib
from typing import TYPE_CHECKING, Final

import pycurl

from cvtrace.lab.client.delays import DelayInjector

if TYPE_CHECKING:
    from cvtrace.lab.client.content import Hasher
    from cvtrace.lab.client.job import Job

RECEIVE_BYTES: Final = 16384

_SLOW_BYTES_PER_S: Final = 1024
_ABORT: Final = -1


class Transfer:
    """A reusable easy handle and the state of its present job."""

    def __init__(self, proxy: str, timeout_s: int, user_agent: str, injector: DelayInjector) -> None:
        self.curl = pycurl.Curl()
        self.job: Job
        self._injector = injector
        self.local_error: OSError | None = None
        self.begun_ns = 0
        self._corrupt = False
        self._hasher: Hasher | None = None
        self._inflater: zlib._Decompress | None = None
        self._headers = ["Connection: Keep-Alive", "Pragma:", f"User-Agent: {user_agent}"]
        set_option = self.curl.setopt
        set_option(pycurl.NOSIGNAL, 1)
        set_option(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        set_option(pycurl.PROXY, "" if proxy == "DIRECT" else proxy)
        if bundle := os.environ.get("X509_CERT_BUNDLE"):  # authorities for HTTPS, by the name that cvmfs2 reads
            set_option(pycurl.CAINFO, bundle)
        set_option(pycurl.BUFFERSIZE, RECEIVE_BYTES)
        set_option(pycurl.FAILONERROR, 1)
        set_option(pycurl.CONNECTTIMEOUT, timeout_s)
        set_option(pycurl.LOW_SPEED_LIMIT, _SLOW_BYTES_PER_S)
        set_option(pycurl.LOW_SPEED_TIME, timeout_s)
        set_option(pycurl.WRITEFUNCTION, self._receive)

    def begin(self, url: str, job: Job) -> None:
        """Prepare the handle for a job."""
        self.job = job
        self.begun_ns = time.monotonic_ns()
        self.local_error = None
        self._corrupt = False
        self._hasher = job.expected.hasher() if job.expected else None
        self._inflater = zlib.decompressobj() if job.compressed else None
        headers = self._headers
        if job.attempts > 1:  # what came first may have been a proxy's damaged copy
            headers = [*headers, "Cache-Control: no-cache"]
        self.curl.setopt(pycurl.HTTPHEADER, headers)
        self.curl.setopt(pycurl.URL, url)

    def is_bad(self, *, complete: bool) -> bool:
        """Whether what arrived is not what was asked for; an incomplete body is judged only by its inflating."""
        if self._corrupt or not complete:
            return self._corrupt
        if self._inflater is not None and not self._inflater.eof:
            return True
        expected = self.job.expected
        return expected is not None and self._hasher is not None and self._hasher.hexdigest() != expected.digits

    def _receive(self, data: bytes) -> int | None:
        began_ns = time.monotonic_ns()
        self._injector.inflate()
        if self._hasher is not None:
            self._hasher.update(data)
        try:
            self.job.sink.write(self._inflater.decompress(data) if self._inflater is not None else data)
        except zlib.error:
            self._corrupt = True
            return _ABORT
        except OSError as error:
            self.local_error = error
            return _ABORT
        self._injector.handled("unpack", began_ns, self.job.path)
        return None
