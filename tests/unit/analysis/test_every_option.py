"""No option of any verb is passed over: each changes what is written, or is refused in one sentence where it has no effect."""

import ast
import inspect
import itertools
import textwrap
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from runs import cold_run, hot_run, stored

from cvtrace.cli import VERBS, main
from cvtrace.commands.formats import FORMATS
from cvtrace.commands.lab import VERBS as LAB_VERBS
from cvtrace.commands.recording import FIELDS

EVERY_VERB = {name: verb for name, verb in VERBS.items() if name != "lab"} | {
    f"lab {name}": verb for name, verb in LAB_VERBS.items()
}
SEVERAL_FILES = ("csv", "parquet")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("cold"), cold_run())


@pytest.fixture(scope="module")
def second_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("hot"), hot_run())


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_every_parameter_is_used_by_its_verb(verb: str) -> None:
    # GIVEN the function behind a verb
    command: click.Command = import_module(EVERY_VERB[verb].module).command
    function = inspect.unwrap(command.callback)  # type: ignore[arg-type]
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    # THEN each of its own parameters is read (those of `analysis_options` and `recording_options` are turned into one)
    parameters = set(inspect.signature(function).parameters)
    assert parameters <= read, sorted(parameters - read)
    options = {"access_log", "log_client", "what_if", "rtt", "parallel", "scale"} if "options" in parameters else set()
    options |= set(FIELDS) if "recording" in parameters else set()
    assert {parameter.name for parameter in command.params if parameter.expose_value} <= parameters | options


REPORT = {
    "--stacks": ("--stacks", "waiting"),
    "--by": ("--by", "line"),
    "--verbose": ("--verbose",),
    "--what-if": ("--what-if",),
    "--rtt": ("--rtt", "70ms"),
    "--parallel": ("--parallel", "3"),
    "--scale": ("--scale", "9"),
    "--access-log": ("--access-log", "{log}"),
    "--log-client": ("--log-client", "10.0.0.1"),
    "--model": ("--model", "{folder}"),
    "--force": ("--force",),
}
"""Options of report, and how they are given; --format, --output and --open have tests of their own."""


def test_each_option_of_report_is_tested_here() -> None:
    command: click.Command = import_module(VERBS["report"].module).command
    names = {option.opts[-1] for option in command.params if isinstance(option, click.Option)}
    assert names == {*REPORT, "--format", "--output", "--open"}


@pytest.mark.parametrize("form, option", list(itertools.product(FORMATS, REPORT)))
def test_an_option_of_report_changes_the_output_or_is_refused(
    trace: Path, tmp_path: Path, form: str, option: str
) -> None:
    # GIVEN a log of a server with a line in it, and a folder without a model
    log, folder = tmp_path / "access.log", tmp_path / "model"
    log.write_text(
        '10.0.0.1 - - [01/Jan/2026:12:00:00 +0000] "GET /cvmfs/repo.test.org/data/00/1P HTTP/1.1" 200 9 "-" "-"\n'
    )
    folder.mkdir()
    words = [word.format(log=log, folder=folder) for word in REPORT[option]]
    # WHEN it is reported without the option, and with it
    plain, changed = (output_of(trace, form, tmp_path / name, more) for name, more in (("plain", ()), ("with", words)))
    # THEN that changes what is written or said, or is wrong usage that names the option
    assert plain[0] == 0
    if changed[0] == 2:
        assert option in changed[2]
    else:
        assert changed[0] == 0
        always = form in ("json", "html") and option == "--what-if"  # they have it in any case
        replacing = form in SEVERAL_FILES and option == "--force"  # there was nothing to replace
        assert changed != plain or always or replacing, f"{option} did nothing with --format {form}"


def output_of(trace: Path, form: str, destination: Path, more: object) -> tuple[int, bytes, str]:
    place = ("-o", destination.with_suffix(".zip")) if form in SEVERAL_FILES else ()
    result = run("report", trace, "--format", form, *place, *more)  # type: ignore[misc]
    content = (
        destination.with_suffix(".zip").read_bytes()
        if form in SEVERAL_FILES and result.exit_code == 0
        else result.stdout_bytes
    )
    return result.exit_code, content, result.stderr


@pytest.mark.parametrize(
    "name, begins",
    [
        ("out.html", b"<!doctype html>"),
        ("out.json", b"{"),
        ("out.txt", b"phi3-qa.py"),
        ("OUT.HTML", b"<!doctype html>"),
        ("out.speedscope.json", b'{"'),
        ("out.folded", b""),
        ("out.prom", b"#"),
        ("out.pftrace", b"\n"),
        ("out", b"phi3-qa.py"),
    ],
)
def test_the_ending_of_the_output_selects_its_format(trace: Path, tmp_path: Path, name: str, begins: bytes) -> None:
    result = run("report", trace, "-o", tmp_path / name)

    assert result.exit_code == 0, result.stderr
    assert (tmp_path / name).read_bytes().startswith(begins)


@pytest.mark.parametrize(
    "words, message",
    [
        (("-o", "x.html", "--format", "json"), "x.html is the name of html, and --format is json"),
        (("-o", "x.json", "--format", "text"), "x.json is the name of json or speedscope"),
        (("-o", "x.csv"), "give --format"),
        (("-o", "x.zip"), "give --format"),
        (("--force",), "--force replaces the file named with -o"),
        (("-o", "-", "--force"), "--force replaces the file named with -o"),
        (("--open", "--format", "perfetto"), "--open shows text, json, html"),
        (("--open", "-o", "-"), "--open needs a file"),
    ],
)
def test_contradicting_options_are_wrong_usage(trace: Path, words: tuple[str, ...], message: str) -> None:
    result = run("report", trace, *words)

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize("option", [("--rtt", "70ms"), ("--parallel", "3"), ("--scale", "9")])
def test_options_of_what_if_imply_it(trace: Path, option: tuple[str, str]) -> None:
    assert run("report", trace, *option).stdout == run("report", trace, "--what-if", *option).stdout
    assert "what if" in run("report", trace, *option).stdout


def test_compare_selects_its_format_by_the_ending(trace: Path, second_trace: Path, tmp_path: Path) -> None:
    assert run("compare", trace, second_trace, "-o", tmp_path / "x.html").exit_code == 0
    assert (tmp_path / "x.html").read_text().startswith("<!doctype html>")
    for words in (("-o", "x.folded"), ("-o", "x.html", "--format", "json"), ("--force",)):
        assert run("compare", trace, second_trace, *words).exit_code == 2


@pytest.mark.parametrize("verb, words", [("report", ()), ("check", ("verdict == no",)), ("compare", (".",))])
def test_a_missing_trace_is_wrong_usage(verb: str, words: tuple[str, ...]) -> None:
    result = run(verb, "nosuch", *words)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "nosuch" in result.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        (("run", "--fromat", "json", "x.py"), "--fromat"),
        (("run", "--no-sumary", "x.py"), "--no-summary"),
        (("run", "-x", "x.py"), "No such option"),
        (("run", "--force", "x.py"), "--force replaces the trace named with -o"),
        (("run", "-v", "--no-summary", "x.py"), "--verbose has no effect with --no-summary"),
        (("run", "--probes", "strace", "--buffer", "64MB", "x.py"), "--buffer has no effect with --probes strace"),
        (("run", "--probes", "portable", "--cost", "x.py"), "--cost has no effect with --probes portable"),
        (("attach", "1", "--fro", "30s"), "--for"),
        (("run", "--keep-names", "--redact", "x.py"), "--keep-names has no effect with --redact"),
        (("attach", "1", "--keep-names", "--redact"), "--keep-names has no effect with --redact"),
        (("attach", "1", "--force"), "--force replaces the trace named with -o"),
        (("attach", "1", "-v", "--no-summary"), "--verbose has no effect with --no-summary"),
        (
            ("lab", "publish", ".", "--fqrn", "a.b", "--store", "s", "--compression", "none", "--level", "3"),
            "--level has no effect",
        ),
        (("lab", "serve", ".", "--every", "3"), "--every has no effect without something to inject"),
        (("lab", "serve", ".", "--match", "x"), "--match has no effect without something to inject"),
        (("lab", "serve", ".", "--drop", "--status", "503"), "--status has no effect with --drop"),
        (
            ("lab", "mount", "a", "b", "--url", "u", "--key", "k", "--retries", "0", "--backoff", "1s"),
            "--backoff has no effect",
        ),
        (("lab", "model", "DIR", "--inline", "--mapped"), "choose --inline or --mapped"),
    ],
)
def test_options_without_an_effect_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.py").write_text("")

    result = run(*words)

    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())


def test_arguments_after_the_script_are_the_scripts() -> None:
    """Options of the script are never taken for cvtrace's; the script is not there, so that nothing is recorded."""
    result = run("run", "nosuch.py", "--fromat", "-v", "--no-summary")

    assert result.exit_code == 2
    assert "there is no script nosuch.py" in result.stderr
