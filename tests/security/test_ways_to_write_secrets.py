"""Passwords and tokens, in the ways in which people write them, in no byte of a trace and in no form of a report.

Before, `--password=…` stood in meta.json, which everybody could read, and in every report made from it.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from cvtrace_run import CVTRACE, options

from cvtrace.cli import main
from cvtrace.probes.credentials import hidden, without_user_info
from cvtrace.probes.cvmfs.mounts import Mount
from cvtrace.probes.doctor.client import Client, _proxy, _server
from cvtrace.probes.events import EVENT, TEXT, Kind
from cvtrace.probes.http import request_line
from cvtrace.tracer.profile import nodes_of
from cvtrace.tracer.redaction import Redaction
from cvtrace.tracer.store import TraceWriter, read_trace

SECRET = "hunter2hunter2xx"
WAYS = (
    "--password={}", "--password {}", "-password {}", "--pass {}", "--passwd={}", "--db-password={}", "--dbPassword={}", "--pwd {}",
    "--passphrase {}", "--client-secret {}", "--token {}", "--auth-token={}", "--hf_token={}", "--hftoken {}", "--api-key {}", "--apikey={}",
    "--apiKey {}", "--access-key={}", "--secret-access-key {}", "--private-key={}", "--credentials={}", "--cookie {}", "--otp {}",
    "--password:{}", "/password:{}", "pass:{}", "PASSWORD={}", "PGPASSWORD={}", "MYSQL_PWD={}", "HF_TOKEN={}", "AWS_SECRET_ACCESS_KEY={}",
    "-e|HF_TOKEN={}", "--env=HF_TOKEN={}", "--env|API_KEY={}", "-Ddb.password={}", "--set|auth.token={}", "--conf=spark.secret={}",
    "--password={},{}", "--password= {} {}", "--password|-{}", "--password='{}'", '--password="{}"',
    "-u|ann:{}", "-uann:{}", "--user|ann:{}", "--user=ann:{}", "--proxy-user ann:{}",
    "http://ann:{}@proxy", "http://{}@proxy/", "http://ann:{}@proxy:3128/x?y", "--proxy=http://ann:a/{}@proxy:3128", "http://ann:1/{}@proxy",
    "http://ann:a@{}@proxy/", "http://ann:a@b/{}@proxy/", "ann:{}@proxy:3128", "--proxy=ann:{}@proxy", "postgres://ann:{}@db/x", "ftp://:{}@h/",
    "https://h/x?token={}", "https://h/x?a=b&password={}&c=d", "https://h/x?X-Amz-Signature={}", "https://h/x?sig={}#y",
    "Authorization: Bearer {}", "-H|Authorization: Basic {}", "--header=Authorization: token {}", "Cookie: a={}; b={}", "X-Api-Key: {}",
    "PRIVATE-TOKEN: {}", "Proxy-Authorization: Basic {}", "curl -H 'Authorization: Bearer {}' x",
    '{{"password": "{}"}}', '{{"password":"a b, {}"}}', "{{'token': '{}'}}", "password: {}", "user=ann password={} host=x",
    "Server=x;Password={};Database=y", "sh|-c|mysql --password {} db", "sh|-c|mysql --password={} db", "sh|-c|PGPASSWORD={} psql",
    "sh|-c|curl -u ann:{} h", "sh|-c|curl 'http://ann:{}@h'", "bash|-c|export API_KEY={}; run", "auth={}", "?token={}",
)  # fmt: skip
"""An argument each, or several: `|` and the first blank behind an option part them."""
FORMS = (
    "ghp_{}", "github_pat_{}", "glpat-{}", "hf_{}", "sk-{}", "sk-ant-{}", "xoxb-{}", "AIza{}{}", "npm_{}{}", "eyJ{}.{}.x", "gsk_{}", "nvapi-{}",
    "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END", "x ghp_{} y", "--anything=hf_{}", "https://h/hf_{}/x",
)  # fmt: skip
"""Tokens that say by themselves what they are."""
UNKNOWN = (
    "{}",
    "-p{}",
    "-p|{}",
    "--name|{}",
    "--prompt={}",
    "/home/ann/{}",
    "-p/home/ann/{}",
    "@{}",
    "-{}",
    "--|--{}",
    "--{}/x",
    "x={}",
    "a,{}",
)
"""What only `--redact` hides."""


def arguments(way: str) -> list[str]:
    filled = way.replace("{}", SECRET).replace("{{", "{").replace("}}", "}")
    if "|" in filled:
        return filled.split("|")
    if re.match("--[a-z]", filled) and " " in filled and not filled.startswith("--password= ") and ": " not in filled:
        return filled.split(" ", 1)
    if filled.startswith("-password "):
        return filled.split(" ", 1)
    return [filled]


def write(path: Path, argv: list[str], *, redact: bool) -> Path:
    """Write a trace as a recording of this command line does."""
    from cvtrace.tracer.new_trace import argv_meta

    redaction = Redaction() if redact else None
    target = {
        **argv_meta(argv),
        "cwd": f"/home/ann/{SECRET}" if redact else "/home",
        "user": "ann",
        "pid": 1,
        "exit_code": 0,
    }
    writer = TraceWriter(
        path, {"clock": {"start_ns": 0, "end_ns": 10**9}, "target": target, "mounts": []}, redaction=redaction
    )
    events = np.zeros(3, dtype=EVENT)
    events["ts"] = (1, 2, 3)
    events["kind"] = Kind.SYS_OPEN
    texts = np.zeros(1, dtype=TEXT)
    texts["ts"], texts["kind"] = 1, Kind.SYS_OPEN
    texts["text"], texts["size"] = b"/etc/x", 6
    writer.write(events, texts)
    writer.finish(end="exited")
    return path


def text_of_all_outputs(path: Path, folder: Path) -> str:
    """Return all bytes of a trace, and of all reports of it."""
    content = b"".join(path.read_bytes() for path in path.iterdir()) + read_trace(path).texts.tobytes()
    text = content.decode("utf-8", "replace")
    for form in ("text", "json", "speedscope", "folded", "openmetrics", "csv", "html"):
        out = folder / form
        result = CliRunner().invoke(main, ["report", str(path), "--format", form, "-o", str(out)])
        assert result.exit_code == 0, result.output
        files = out.iterdir() if out.is_dir() else [out]
        text += "".join(file.read_text(errors="replace") for file in files)
    result = CliRunner().invoke(main, ["report", str(path), "-v"])
    return text + result.output


@pytest.mark.parametrize("way", [*WAYS, *FORMS])
def test_recognisable_passwords_are_removed_from_command_lines(way):
    argv = arguments(way)
    hidden_arguments = hidden(["program", *argv, "more"])
    assert SECRET not in " ".join(hidden_arguments), hidden_arguments
    assert hidden_arguments[0] == "program"
    assert hidden_arguments[-1] == "more"


@pytest.mark.parametrize("way", [*WAYS, *FORMS, *UNKNOWN])
def test_redaction_leaves_nothing_of_a_command_line_but_names_of_options(way):
    redaction = Redaction()
    meta = redaction.meta(
        {
            "target": {"argv": ["program.py", *hidden(arguments(way))], "cwd": "/x", "user": "ann"},
            "missing": [f"program.py failed {SECRET}"],
        }
    )
    assert SECRET not in json.dumps(meta["target"]), meta
    assert "program.py" not in json.dumps(meta)
    assert "ann" not in json.dumps(meta)


def test_no_output_of_a_report_contains_passwords(tmp_path):
    argv = ["python", "qa.py", *(word for way in (*WAYS, *FORMS) for word in arguments(way))]
    assert SECRET not in text_of_all_outputs(write(tmp_path / "t", argv, redact=False), tmp_path)
    (tmp_path / "redacted").mkdir()
    argv += [word for way in UNKNOWN for word in arguments(way)]
    content = text_of_all_outputs(write(tmp_path / "r", argv, redact=True), tmp_path / "redacted")
    assert SECRET not in content
    # AND the report says what may be left
    for form, path in (("hashed (--redact)", "redacted"), ("are recorded as they are", "")):
        privacy = json.loads((tmp_path / path / "json").read_text())["trace"]["privacy"]
        assert any(form in item for item in privacy)
        assert form in (tmp_path / path / "html").read_text()


def test_command_lines_without_secrets_stay_as_they_are():
    argv = [
        *(
            "phi3-qa.py",
            "-m",
            "/cvmfs/x/models/phi",
            "-e",
            "cpu",
            "-g",
            "-p",
            "What is a muon?",
            "--tokens",
            "32",
            "--max-token",
            "5",
        ),
        *(
            "--tokenizer",
            "t.json",
            "--eos-token",
            "</s>",
            "--key",
            "date",
            "--pin-memory",
            "1",
            "--password-file",
            "/x",
            "--author",
            "Ann",
        ),
        *(
            "http://host:8080/cvmfs/a@1/x",
            "git+https://github.com/x/y@main",
            "repo:tag@sha256:abc",
            "user@host:/p",
            "a=b",
            "-u",
            "x.py",
        ),
        *("C:\\x", "12:30", "--compass", "north", "--num-tokens=7", "--no-auth", "x", "tokens=5", "--monkey", "5"),
    ]
    assert hidden(argv) == argv


@pytest.mark.parametrize(
    "piece",
    ["a", "a=", "a.", "a:@", "-u ", "http://a:b/", '"', "password=", "eyJaaaaaa.", "-----BEGIN ", "@", "Aa", "a/"],
)
def test_a_hostile_command_line_does_not_delay_the_recorder(piece):
    """GIVEN arguments made so that patterns try every way through them: it took minutes."""
    word = piece * (130_000 // len(piece))
    began_s = time.process_time()
    hidden([word])
    Redaction().meta({"target": {"argv": [word], "cwd": "/"}, "missing": [word]})
    assert time.process_time() - began_s < 5


@pytest.mark.parametrize(
    "address",
    [
        "http://ann:{}@proxy:3128", "http://ann:a/{}@proxy:3128", "http://ann:1/{}@proxy:3128/cvmfs/x", "http://ann:a@{}@proxy/cvmfs/x",
        "http://{}@proxy:3128/", "http://ann:a/b@{}/c@proxy:3128", "ann:{}@proxy:3128",
    ],
)  # fmt: skip
def test_no_password_of_a_proxy_is_printed(address):
    """`http://ann:pa/ss@proxy` kept its password: it looks like a host, a port and a path."""
    address = address.replace("{}", SECRET)
    assert SECRET not in without_user_info(address)
    assert "proxy" in without_user_info(address)
    client = Client(Mount("/cvmfs/x", 1, "x", None, "", None), {"user.proxy": address, "user.host": address})
    assert SECRET not in _proxy(client).sentence + _server(client).sentence
    line = request_line(f"GET {address if '://' in address else 'http://' + address} HTTP/1.1\r\n\r\n".encode())
    assert SECRET.encode() not in line


@pytest.mark.parametrize(
    "target", ["http://ann:pa?{}@proxy/", "http://ann:pa#{}@proxy/", "http://ann:{}?x@proxy/", "http://ann:{}"]
)
def test_a_password_with_a_question_mark_is_in_no_request_line(target):
    line = request_line(f"GET {target.replace('{}', SECRET)} HTTP/1.1\r\n\r\n".encode())
    assert SECRET.encode() not in line
    assert b"pa" not in line.replace(b"proxy", b"")


def test_names_of_phases_and_of_nodes_are_hashed():
    """`--redact` left both."""
    redaction = Redaction()
    texts = np.zeros(3, dtype=TEXT)
    texts["kind"] = (Kind.PHASE, Kind.IMPORT, Kind.CACHE_OPEN)
    texts["text"] = (b"ann's thesis/part 2", b"thesis.secret", b"./ab/" + b"c" * 38)
    texts["size"] = [len(text) for text in texts["text"]]
    hashed = redaction.texts(texts)["text"].tolist()
    assert b"thesis" not in b"".join(hashed)
    assert b"/" not in hashed[0]
    assert hashed[2] == b"./ab/" + b"c" * 38
    assert redaction.node("/model/layers.17/thesis/MatMul").startswith("layers.17/")
    assert "thesis" not in redaction.node("/model/layers.17/thesis/MatMul")


def test_a_token_that_looks_like_a_content_hash_is_hashed():
    """A name of 40 hexadecimal digits stayed, wherever it stood."""
    token = "0123456789abcdef0123456789abcdef01234567"
    redaction = Redaction()
    meta = redaction.meta({"target": {"argv": ["x", token, "ab"], "cwd": f"/home/{token}"}})
    assert token not in json.dumps(meta)
    texts = np.zeros(1, dtype=TEXT)
    texts["kind"], texts["text"], texts["size"] = Kind.SYS_OPEN, f"/home/{token}".encode(), 46
    assert token.encode() not in redaction.texts(texts).tobytes()


def test_an_invalid_profile_does_not_end_the_recording():
    """GIVEN numbers that are none, or larger than there are: `int(…)` raised in the recorder."""
    for event in (
        '{"ts": "x", "cat": "Node"}',
        '{"ts": 1e999, "name": "model_run"}',
        '{"ts": [], "name": "model_run"}',
        '{"pid": {}}',
    ):
        nodes, missing = nodes_of([f"[\n{event}\n]".encode()], [])
        assert missing or nodes is not None


def test_a_trace_is_readable_by_its_user_only(tmp_path, mount, monkeypatch):
    """It was readable by everybody, whatever the umask; with --force it stayed so."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0)
    try:
        for more in ([], ["--force"]):
            result = subprocess.run(
                [*CVTRACE, "run", *options(mount), *more, "--", "/bin/true"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 0, result.stderr
            assert stat.S_IMODE(Path("trace").stat().st_mode) == 0o700
            assert {stat.S_IMODE(path.stat().st_mode) for path in Path("trace").iterdir()} == {0o600}
            Path("trace").chmod(0o755)
    finally:
        os.umask(before)
