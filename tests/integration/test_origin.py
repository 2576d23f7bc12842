"""The origin over real sockets: its responses, its injected faults, and its log."""

import http.client
import json
import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cvtrace_run import CVTRACE
from waiting import wait_until

from cvtrace.lab.errors import LabError
from cvtrace.lab.origin import AccessEntry, Injection, Origin, control, read_access_log

OBJECT = "/cvmfs/lab.example.org/data/ab/cdP"
BODY = bytes(range(256)) * 4000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    folder = store / "cvmfs" / "lab.example.org" / "data" / "ab"
    folder.mkdir(parents=True)
    (folder / "cdP").write_bytes(BODY)
    (folder / "empty").touch()
    (store / "keys").mkdir()
    (store / "keys" / "secret.key").write_text("secret")
    (folder / "escape").symlink_to(store / "keys" / "secret.key")
    os.mkfifo(folder / "pipe")
    return store


@pytest.fixture
def origin(store: Path, tmp_path: Path) -> Iterator[Origin]:
    with Origin(store, access_log=tmp_path / "access.log", control=tmp_path / "control") as origin:
        yield origin


@pytest.fixture
def connection(origin: Origin) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=30)
    yield connection
    connection.close()


def get(connection: http.client.HTTPConnection, path: str = OBJECT, method: str = "GET") -> tuple[int, bytes]:
    connection.request(method, path)
    response = connection.getresponse()
    return response.status, response.read()


def logged(origin: Origin, tmp_path: Path) -> list[AccessEntry]:
    assert origin.wait_idle()
    return read_access_log(tmp_path / "access.log")


def raw(origin: Origin, request: bytes) -> bytes:
    """Send bytes as they are, and return all that comes back until the connection is closed."""
    with socket.create_connection(("127.0.0.1", origin.port), timeout=30) as peer:
        peer.sendall(request)
        answer = b""
        while piece := peer.recv(65536):
            answer += piece
        return answer


def test_objects_over_one_connection(origin: Origin, connection: http.client.HTTPConnection, tmp_path: Path) -> None:
    # GIVEN
    before_ns, before_ms = time.monotonic_ns(), time.time_ns() // 1_000_000

    # WHEN
    answers = [get(connection), get(connection, OBJECT.replace("cdP", "empty")), get(connection, method="HEAD")]

    # THEN
    assert answers == [(200, BODY), (200, b""), (200, b"")]
    entries = logged(origin, tmp_path)
    assert [entry.body_bytes for entry in entries] == [len(BODY), 0, 0]
    assert [entry.method for entry in entries] == ["GET", "GET", "HEAD"]
    assert len({entry.port for entry in entries}) == 1
    for entry in entries:
        assert before_ns < entry.start_ns <= entry.first_byte_ns <= entry.end_ns < time.monotonic_ns()
        assert before_ms <= entry.start_ms <= entry.end_ms <= time.time_ns() // 1_000_000
        assert entry.delay_ns == entry.pace_ns == 0
        assert not any((entry.truncated, entry.dropped, entry.aborted))


def test_head_has_the_headers_of_get(connection: http.client.HTTPConnection) -> None:
    # WHEN
    connection.request("HEAD", OBJECT)
    response = connection.getresponse()

    # THEN
    assert response.getheader("Content-Length") == str(len(BODY))


@pytest.mark.parametrize(
    "path",
    [
        "/cvmfs/lab.example.org/data/ab/none",
        "/cvmfs/lab.example.org/data",
        "/cvmfs/lab.example.org/data/ab/pipe",
        "/cvmfs/lab.example.org/data/ab/escape",
        "/cvmfs/../keys/secret.key",
        "/cvmfs/%2e%2e/keys/secret.key",
        "/cvmfs/..%2fkeys/secret.key",
        "/cvmfs//etc/passwd",
        "/keys/secret.key",
        "/cvmfs/a%00b",
        "/cvmfs/",
        "/",
    ],
)
def test_paths_outside_of_the_store_are_not_served(connection: http.client.HTTPConnection, path: str) -> None:
    # WHEN
    status, body = get(connection, path)

    # THEN
    assert status == 404
    assert b"secret" not in body


def test_other_requests_are_refused(origin: Origin, tmp_path: Path) -> None:
    # WHEN
    refused = raw(origin, b"POST %s HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" % OBJECT.encode())
    malformed = raw(origin, b"nonsense\r\n\r\n")

    # THEN
    assert refused.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET, HEAD\r\n" in refused
    assert malformed.startswith(b"HTTP/1.1 400 ")
    assert [entry.status for entry in logged(origin, tmp_path)] == [405, 400]


def test_a_request_with_an_absolute_url_is_served(origin: Origin) -> None:
    # WHEN
    answer = raw(origin, f"GET {origin.url}{OBJECT}?x HTTP/1.1\r\nConnection: close\r\n\r\n".encode())

    # THEN
    assert answer.endswith(BODY)


def test_delay_before_the_first_byte(origin: Origin, connection: http.client.HTTPConnection, tmp_path: Path) -> None:
    # GIVEN
    origin.injections = [Injection(first_byte_delay_s=0.03)]

    # WHEN
    start_ns = time.monotonic_ns()
    connection.request("GET", OBJECT)
    response = connection.getresponse()
    waited_ns = time.monotonic_ns() - start_ns
    assert response.read() == BODY

    # THEN the log has what the client saw
    entry = logged(origin, tmp_path)[-1]
    assert 30_000_000 <= entry.delay_ns <= waited_ns
    assert entry.first_byte_ns - entry.start_ns >= entry.delay_ns


def test_bandwidth_is_shared_like_a_link(origin: Origin, tmp_path: Path) -> None:
    # GIVEN
    origin.injections = [Injection(bandwidth_bytes_per_s=20e6)]

    # WHEN two connections fetch at the same time
    def fetch(_: int) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=30)
        return get(connection)[1]

    with ThreadPoolExecutor(2) as pool:
        bodies = list(pool.map(fetch, range(2)))

    # THEN both together are not faster than the link
    assert bodies == [BODY, BODY]
    entries = logged(origin, tmp_path)
    took_ns = max(e.end_ns for e in entries) - min(e.start_ns for e in entries)
    assert took_ns >= 2 * len(BODY) / 20e6 * 1e9
    for entry in entries:
        assert 0 < entry.pace_ns <= entry.end_ns - entry.first_byte_ns


def test_truncated_body(origin: Origin, connection: http.client.HTTPConnection, tmp_path: Path) -> None:
    # GIVEN
    origin.injections = [Injection(truncate_after_bytes=1000, times=1)]

    # WHEN
    connection.request("GET", OBJECT)
    with pytest.raises(http.client.IncompleteRead) as cut:
        connection.getresponse().read()
    connection.close()
    response = get(connection)

    # THEN
    assert cut.value.partial == BODY[:1000]
    assert response == (200, BODY)
    first, second = logged(origin, tmp_path)
    assert (first.status, first.body_bytes, first.truncated) == (200, 1000, True)
    assert (second.body_bytes, second.truncated) == (len(BODY), False)
    assert first.port != second.port


def test_dropped_connection(origin: Origin, connection: http.client.HTTPConnection, tmp_path: Path) -> None:
    # GIVEN every second request is dropped
    origin.injections = [Injection(drop=True, every=2)]

    # WHEN
    first = get(connection)
    with pytest.raises(http.client.RemoteDisconnected):
        get(connection)

    # THEN
    assert first == (200, BODY)
    entry = logged(origin, tmp_path)[-1]
    assert (entry.status, entry.body_bytes, entry.dropped, entry.first_byte_ns) == (0, 0, True, 0)


def test_status_for_some_paths(origin: Origin, connection: http.client.HTTPConnection, tmp_path: Path) -> None:
    # GIVEN a glob, then a regular expression
    origin.injections = [Injection(match="*/empty", status=503), Injection(match=r"re:cd[A-Z]$", status=502)]

    # WHEN
    empty, chunk = get(connection, OBJECT.replace("cdP", "empty")), get(connection)
    response, _ = get(connection, OBJECT + "x")

    # THEN the connection stays usable, and the log has the bytes of the error's text
    assert (empty[0], chunk[0], response) == (503, 502, 404)
    entries = logged(origin, tmp_path)
    assert [entry.status for entry in entries] == [503, 502, 404]
    assert entries[0].body_bytes == len(empty[1])
    assert len({entry.port for entry in entries}) == 1


def test_injected_faults_with_a_probability_repeat_with_the_same_seed(store: Path) -> None:
    # WHEN
    def statuses() -> list[int]:
        with Origin(store, injections=[Injection(status=503, probability=0.5)]) as origin:
            connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=30)
            return [get(connection)[0] for _ in range(20)]

    # THEN
    first = statuses()
    assert first == statuses()
    assert set(first) == {200, 503}


def test_client_that_goes_away_is_logged_as_aborted(origin: Origin, tmp_path: Path) -> None:
    # GIVEN a body that takes seconds
    origin.injections = [Injection(bandwidth_bytes_per_s=200e3)]

    # WHEN the client leaves in the middle
    with socket.create_connection(("127.0.0.1", origin.port), timeout=30) as peer:
        peer.sendall(b"GET %s HTTP/1.1\r\n\r\n" % OBJECT.encode())
        assert peer.recv(100)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    # THEN
    entry = logged(origin, tmp_path)[-1]
    assert entry.aborted
    assert entry.body_bytes < len(BODY)


def test_stopping_the_origin_cuts_responses_in_flight(store: Path, tmp_path: Path) -> None:
    # GIVEN a request that waits for a minute
    log = tmp_path / "access.log"
    origin = Origin(store, access_log=log, injections=[Injection(first_byte_delay_s=60)]).start()
    answers: list[bytes] = []
    peer = threading.Thread(target=lambda: answers.append(raw(origin, b"GET %s HTTP/1.1\r\n\r\n" % OBJECT.encode())))
    peer.start()
    wait_until(lambda: not origin.wait_idle(0), "the request has come")

    # WHEN
    origin.stop()
    peer.join(30)

    # THEN
    assert not peer.is_alive()
    entries = read_access_log(log)
    assert [entry.aborted for entry in entries] == [True]
    origin.stop()


def test_many_connections_are_logged_exactly(origin: Origin, tmp_path: Path) -> None:
    # WHEN 32 connections fetch 10 times each
    def fetch(_: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=120)
        received = sum(len(get(connection)[1]) for _ in range(10))
        connection.close()
        return received

    with ThreadPoolExecutor(32) as pool:
        received_bytes = sum(pool.map(fetch, range(32)))

    # THEN
    entries = logged(origin, tmp_path)
    assert len(entries) == 320 == origin.requests
    assert sum(entry.body_bytes for entry in entries) == received_bytes == 320 * len(BODY)
    assert len({entry.port for entry in entries}) == 32


def test_injections_change_over_the_control_socket(
    origin: Origin, connection: http.client.HTTPConnection, tmp_path: Path
) -> None:
    # GIVEN
    path = tmp_path / "control"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    # WHEN
    get(connection)
    answer = control(path, {"command": "inject", "injections": [{"status": 503}]})
    injected = get(connection)[0]
    control(path, {"command": "inject", "injections": []})
    after = get(connection)[0]

    # THEN
    assert (injected, after) == (503, 200)
    assert answer["injections"] == [Injection(status=503).to_json()]
    assert control(path, {"command": "wait_idle"})["idle"]
    assert control(path, {"command": "status"})["requests"] == 3
    refused: list[tuple[dict[str, Any], str]] = [
        ({"command": "explode"}, "not a command"),
        ({"command": "inject", "injections": [{"delay": 1}]}, "has no delay"),
        ({"command": "inject", "injections": [{"status": 200}]}, "between 400 and 599"),
        ({"command": "inject", "injections": [{"every": "x"}]}, "cannot be like that"),
        ({"command": "inject", "injections": 5}, "is a list"),
    ]
    for wrong, sentence in refused:
        with pytest.raises(LabError, match=sentence):
            control(path, wrong)
    origin.stop()
    assert not path.exists()
    with pytest.raises(LabError, match="no origin answers"):
        control(path, {"command": "status"})


def test_an_origin_that_cannot_start_is_reported_in_one_sentence(store: Path, origin: Origin, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="not a store"):
        Origin(tmp_path / "none").start()
    with pytest.raises(LabError, match=f"cannot listen on 127.0.0.1 port {origin.port}"):
        Origin(store, port=origin.port).start()
    with pytest.raises(LabError, match="another origin listens"):
        Origin(store, control=tmp_path / "control").start()
    with pytest.raises(LabError, match="cannot write the access log"):
        Origin(store, access_log=tmp_path / "none" / "log").start()
    with pytest.raises(LabError, match="not running"):
        _ = Origin(store).port


def test_a_log_that_is_being_written_can_be_read(tmp_path: Path) -> None:
    # GIVEN one whole line and one that is not
    log = tmp_path / "log"
    entry = AccessEntry(start_ns=1, start_ms=2, port=3)
    log.write_text(json.dumps(vars(entry)) + "\n" + '{"start_ns"')

    # WHEN / THEN
    assert read_access_log(log) == [entry]
    log.write_text("nonsense\n")
    with pytest.raises(LabError, match="line 1"):
        read_access_log(log)


def test_the_command_serves_until_a_signal_ends_it(store: Path, tmp_path: Path) -> None:
    # GIVEN
    log, path = tmp_path / "log", tmp_path / "socket"
    arguments = ["lab", "serve", str(store), "--port", "0", "--delay", "20ms", "--bandwidth", "100MB/s"]
    command = [*CVTRACE, *arguments, "--access-log", str(log), "--control", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        announced = process.stdout.readline()

        # WHEN
        port = int(control(path, {"command": "status"})["url"].rpartition(":")[2])
        answer = get(http.client.HTTPConnection("127.0.0.1", port, timeout=30))
        process.terminate()
        code = process.wait(30)

    # THEN
    assert f"http://127.0.0.1:{port}/cvmfs/" in announced
    assert answer == (200, BODY)
    assert code == 0
    (entry,) = read_access_log(log)
    assert entry.delay_ns >= 20_000_000
    assert entry.pace_ns > 0
    assert not path.exists()


def test_held_connections_are_accepted_later(
    origin: Origin, connection: http.client.HTTPConnection, tmp_path: Path
) -> None:
    # GIVEN an open connection
    assert get(connection) == (200, BODY)

    # WHEN connections are held
    held_until_ns = control(tmp_path / "control", {"command": "hold_connections", "for_s": 0.5})["until_ns"]

    # THEN the open one is cut, and a new one comes about when the kernel tries again after the end
    with pytest.raises((http.client.HTTPException, OSError)):
        get(connection)
    with socket.create_connection(("127.0.0.1", origin.port), timeout=30) as later:
        assert time.monotonic_ns() > held_until_ns
        later.sendall(f"GET {OBJECT} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert later.recv(12) == b"HTTP/1.1 200"


def test_an_origin_ends_while_it_holds_connections(store: Path) -> None:
    with Origin(store) as origin:
        origin.hold_connections(60)
