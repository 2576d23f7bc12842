"""What of an HTTP message may enter a trace: never credentials, query strings, unknown headers or bodies."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from cvtrace.probes.events import Kind, Texts

_KEPT_HEADERS: Final = (b"content-length", b"x-cache", b"via", b"age")
_USERINFO: Final = re.compile(rb"(://)[^/@\s]*@")


def request_line(message: bytes) -> bytes:
    """Return the request line of `message` without user info and query string; empty if it is cut before its end."""
    line, end, _ = message.partition(b"\r\n")
    if not end and b" HTTP/" not in line:
        line = line.rsplit(b"?", 1)[0] + b"\xe2\x80\xa6"  # longer than what was kept: say so with an ellipsis
    parts = line.split(b" ")
    if len(parts) >= 2:
        parts[1] = _USERINFO.sub(rb"\1", parts[1].partition(b"?")[0])
    return b" ".join(parts)


def response_head(message: bytes) -> bytes:
    """Return the status line and the few headers of `message` that say how it was served."""
    head, end, _ = message.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    if not end:
        headers = headers[:-1]  # the last one may be cut
    kept = [header for header in headers if header.partition(b":")[0].strip().lower() in _KEPT_HEADERS]
    return b"\r\n".join([status, *kept])


def redact_texts(texts: Texts) -> Texts:
    """Cut the HTTP texts of a drained block, in place. HTTP texts are few (two per fetch), so a loop is fine."""
    for kind, cut in ((Kind.HTTP_SEND, request_line), (Kind.HTTP_RECV, response_head)):
        for index in np.nonzero(texts["kind"] == kind)[0]:
            kept = cut(bytes(texts["text"][index]))
            texts["text"][index] = kept
            texts["size"][index] = len(kept)
    return texts
