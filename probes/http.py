"""What may enter a trace: of an HTTP message never credentials, query strings, unknown headers or bodies; of files nothing."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

import numpy as np

from cvtrace.probes.credentials import without_user_info
from cvtrace.probes.events import TEXT, TEXT_MAX, Events, Kind, Texts

_OBJECT: Final = re.compile(
    rb"(?:/[^/]*)*/(?:data/[0-9a-f]{2}/[0-9a-f]{36,}(?:-[a-z0-9]+)?[A-Z]?|\.cvmfs(?:published|whitelist|reflog)"
    rb"|api/v[0-9.]+/geo/[^/]+/[^/]+)"
)
"""Paths that name no file of anybody: what a client fetches by content, the few files that every repository has, and the question
which server is near (cvmfs/network). What precedes them is where the server has the repository."""
_END: Final = re.compile(rb"(?: [HTP/\d.]*)?(?:\xe2\x80\xa6)?")
"""What follows the path of a request line, whole or cut."""

_METHOD: Final = re.compile(rb"[A-Z]{3,7}")
_VERSION: Final = re.compile(rb" HTTP/\d\.\d$")
_AUTHORITY: Final = re.compile(rb"(?:\[[^\]]*\]|[^:@]*)(?::\d*)?")
_STATUS: Final = re.compile(rb"(HTTP/\d\.\d) (\d{3})(?: ([^\r\n]*))?")
_HEADERS: Final = {
    b"content-length": re.compile(rb"\d{1,20}"),
    b"age": re.compile(rb"\d{1,20}"),
    b"x-cache": re.compile(rb"[\w .,:()/-]{1,120}"),
    b"via": re.compile(rb"[\w .,:()/+-]{1,120}"),
    b"date": re.compile(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"),
}
"""Headers that say how and when an object was served, and what their values look like: a body may look like a head."""

_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_CUT: Final = b"\xe2\x80\xa6"


def request_line(message: bytes) -> bytes:
    """Return the request line of `message` without user info, query string and fragment.

    One that is cut before its end gets an ellipsis. Empty for what is no request.
    """
    line = re.split(rb"[\r\n]", message, maxsplit=1)[0]
    method, _, target_and_version = line.partition(b" ")
    if not _METHOD.fullmatch(method):
        return b""
    version = _VERSION.search(target_and_version)
    target = target_and_version[: version.start()] if version else target_and_version
    is_complete = version is not None or len(line) < len(message)
    url = re.split(rb"[?#]", target, maxsplit=1)[0]
    scheme, separator, address = url.partition(b"://")
    if separator:
        if b"/" not in address and not is_complete:
            address = b""  # may be the beginning of user info
        text = f"x://{address.decode('latin-1')}"
        address = without_user_info(text).partition("://")[2].encode("latin-1")
        authority, slash, path = address.partition(b"/")
        if not _AUTHORITY.fullmatch(
            authority
        ):  # the end of it was in what was cut off: a password with a question mark
            authority = b""
        url = scheme + separator + authority + slash + path
    return b" ".join([method, url]) + (version[0] if version else b"" if is_complete else _CUT)


def without_names(line: bytes) -> bytes:
    """Return a request line whose path is left out unless it is that of an object or of a repository's own files.

    External data is fetched by the names of its files, and the download thread serves everybody: a name may be what another user
    looks at. Content hashes stay, as requests are joined by them.
    """
    method, _, target_and_version = line.partition(b" ")
    target, blank, end = target_and_version.partition(b" ")
    target = target.removesuffix(_CUT)
    scheme, separator, address = target.partition(b"://")
    authority, slash, path = address.partition(b"/") if separator else (b"", b"/", target.removeprefix(b"/"))
    if not slash or (_OBJECT.fullmatch(b"/" + path) and _END.fullmatch(blank + end)):
        return line
    version = _VERSION.search(target_and_version)
    server = scheme + separator + authority if separator else b""
    return method + b" " + server + b"/" + _CUT + (version[0] if version else b"")


def response_head(message: bytes) -> bytes:
    """Return the status line and the few headers of `message` that say how and when it was served; empty for what is no head."""
    head, end, _ = message.partition(b"\r\n\r\n")
    line, *headers = head.split(b"\r\n")
    status = _STATUS.fullmatch(line)
    if status is None:
        return b""
    if not end:
        headers = headers[:-1]  # the last one may be cut
    reason = _REASONS.get(int(status[2]))
    lines = [b"%s %s" % (status[1], status[2]) + (b" " + reason if reason and status[3] == reason else b"")]
    for header in headers:
        name, _, value = header.partition(b":")
        form = _HEADERS.get(name.strip().lower())
        if form is not None and form.fullmatch(value.strip()):
            lines.append(b"%s: %s" % (name.strip(), value.strip()))
    return b"\r\n".join(lines)


def redact_texts(texts: Texts) -> Texts:
    """Cut the HTTP texts of a drained block, and wipe what is behind the end of every text, in place.

    A record of the ring still holds what an earlier one left there: headers, say. HTTP texts are few (two per fetch),
    so a loop is fine.
    """
    if not len(texts):
        return texts
    characters = texts.view(np.uint8).reshape(len(texts), TEXT.itemsize)[:, TEXT.itemsize - TEXT_MAX :]
    characters *= np.arange(TEXT_MAX) < texts["size"][:, None]
    for kind, cut in (
        (Kind.HTTP_SEND, lambda message: without_names(request_line(message))),
        (Kind.HTTP_RECV, response_head),
    ):
        for index in np.nonzero(texts["kind"] == kind)[0]:
            text = cut(bytes(texts["text"][index]))[:TEXT_MAX]
            texts["text"][index] = text
            texts["size"][index] = len(text)
    return texts


_LOWEST_ADDRESS: Final = 1 << 16
_HIGHEST_ADDRESS: Final = 1 << 47
_HIGHEST_RESULT: Final = 1 << 10
"""Failure codes of a download are small (cvmfs/network/network_errors.h)."""


def drop_contents(events: Events) -> Events:
    """Return the events without such handovers as cannot be any: 8 or 4 bytes that a client wrote to a file.

    BPF programs see the bytes of a write and not whether it goes to a pipe. An address of a job is a multiple of 8 in user
    space, which no 8 letters are.
    """
    if not len(events):
        return events
    kinds = events["kind"]
    suspects = np.flatnonzero((kinds >= Kind.HANDOVER) & (kinds <= Kind.HANDOVER_RESULT))
    if not len(suspects):
        return events
    value = events["a"][suspects]
    is_address = (value >= _LOWEST_ADDRESS) & (value < _HIGHEST_ADDRESS) & (value % 8 == 0)
    of_job = (kinds[suspects] == Kind.HANDOVER) | (kinds[suspects] == Kind.HANDOVER_TAKEN)
    possible = np.where(of_job, is_address, value < _HIGHEST_RESULT)
    return events if possible.all() else np.delete(events, suspects[~possible])
