"""Nothing of an HTTP message but what says how an object was served may enter a trace."""

import numpy as np
import pytest

from cvtrace.probes.events import TEXT, Kind
from cvtrace.probes.http import redact_texts, request_line, response_head, without_names


def test_request_line_is_kept_without_headers() -> None:
    # GIVEN a request with a secret in a header
    message = b"GET /cvmfs/r.org/data/85/bde3P HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer s3cret\r\n\r\n"

    # WHEN / THEN
    assert request_line(message) == b"GET /cvmfs/r.org/data/85/bde3P HTTP/1.1"


def test_request_line_loses_credentials_and_query() -> None:
    message = b"GET http://user:s3cret@proxy:3128/cvmfs/r.org/x?token=s3cret HTTP/1.1\r\n\r\n"

    assert request_line(message) == b"GET http://proxy:3128/cvmfs/r.org/x HTTP/1.1"


def test_request_line_that_was_cut_keeps_no_part_of_its_query() -> None:
    assert b"s3cr" not in request_line(b"GET /cvmfs/r.org/x?token=s3cr")


def test_response_head_keeps_what_says_how_it_was_served() -> None:
    message = (
        b"HTTP/1.1 200 OK\r\nServer: n\r\nContent-Length: 12\r\nSet-Cookie: s3cret\r\nX-Cache: HIT\r\n\r\nBODYBODY"
    )

    assert response_head(message) == b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX-Cache: HIT"


def test_response_head_without_its_end_drops_the_header_that_may_be_cut() -> None:
    assert response_head(b"HTTP/1.1 200 OK\r\nAge: 7\r\nContent-Length: 1") == b"HTTP/1.1 200 OK\r\nAge: 7"


def test_redaction_of_a_block_leaves_other_texts_alone() -> None:
    # GIVEN a drained block with a path and a request
    texts = np.zeros(2, dtype=TEXT)
    texts["kind"] = [Kind.SYS_OPEN, Kind.HTTP_SEND]
    texts["text"] = [b"/etc/x?y", b"GET /a?b HTTP/1.1\r\nCookie: s3cret\r\n\r\n"]
    texts["size"] = [8, 60]

    # WHEN
    redacted = redact_texts(texts)

    # THEN
    assert redacted["text"].tolist() == [b"/etc/x?y", "GET /… HTTP/1.1".encode()]
    assert redacted["size"].tolist() == [8, 17]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"GET /cvmfs/r.org/data/85/{'b' * 38}P HTTP/1.1", None),
        (f"GET http://proxy:3128/cvmfs/r.org/data/85/{'b' * 38}-shake128C HTTP/1.1", None),
        (f"GET /cvmfs/r.org/data/85/{'b' * 38}P HTTP/1.…", None),
        ("GET /cvmfs/r.org/.cvmfspublished HTTP/1.1", None),
        (f"GET /~sw/a%20b,c=d//r.org/data/85/{'b' * 38}C HTTP/1.1", None),
        ("GET /cvmfs/r.org/api/v1.0/geo/3f1c-9a/one.org,two.org HTTP/1.1", None),
        (f"GET /r.org/data/85/{'b' * 38} /ann/thesis HTTP/1.1", "GET /… HTTP/1.1"),
        (f"GET /ann/data/85/{'b' * 38}/thesis HTTP/1.1", "GET /… HTTP/1.1"),
        ("GET /ann/thesis/chapter-1 HTTP/1.1", "GET /… HTTP/1.1"),
        ("GET http://store.org:80/ann/thesis HTTP/1.1", "GET http://store.org:80/… HTTP/1.1"),
        ("GET /ann/data/85/thesis HTTP/1.1", "GET /… HTTP/1.1"),
        ("GET /ann/the…", "GET /…"),
    ],
)
def test_request_paths_that_contain_names_are_removed(line: str, expected: str | None) -> None:
    assert without_names(line.encode()).decode() == (line if expected is None else expected)
