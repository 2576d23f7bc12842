#!/usr/bin/env python3
"""Write the manual pages (man/*.1) and docs/commands.md from the commands themselves: `make man`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

import cvtrace
from cvtrace.cli import main
from cvtrace.commands.examples import EXAMPLES, as_typed

ROOT: Final = Path(__file__).resolve().parents[1]
MAN: Final = ROOT / "man"
PAGE: Final = ROOT / "docs" / "commands.md"
SUDO: Final = 'sudo "$(command -v cvtrace)"'
"""Also right where cvtrace is in a virtual environment or was installed with pipx."""
EXIT_CODES: Final = (
    ("the script's own", "of `run`; 128+n if signal n ended the script"),
    ("0", "success"),
    ("1", "a check failed (`check`, `doctor`), or the lab is down (`lab status`)"),
    ("2", "wrong usage; also a trace that does not exist"),
    ("3", "cvtrace cannot observe here; the message names the way out"),
    ("4", "the trace is too damaged to be read; of `fleet`, one or more of the traces, and the others are reported"),
    ("130", "ended with Ctrl-C"),
)
COMPLETION: Final = (
    ("bash", 'eval "$(_CVTRACE_COMPLETE=bash_source cvtrace)"', "~/.bashrc"),
    ("zsh", 'eval "$(_CVTRACE_COMPLETE=zsh_source cvtrace)"', "~/.zshrc"),
    ("fish", "_CVTRACE_COMPLETE=fish_source cvtrace | source", "~/.config/fish/config.fish"),
)


def commands() -> Iterator[tuple[str, click.Context]]:
    """Yield every command with its full name, groups before their verbs."""
    top = click.Context(main, info_name="cvtrace", **main.context_settings)
    yield "cvtrace", top
    yield from _below("cvtrace", top)


def _below(name: str, context: click.Context) -> Iterator[tuple[str, click.Context]]:
    group = context.command
    assert isinstance(group, click.Group)
    for verb in group.list_commands(context):
        command = group.get_command(context, verb)
        assert command is not None
        inner = click.Context(command, info_name=verb, parent=context)
        yield f"{name} {verb}", inner
        if isinstance(command, click.Group):
            yield from _below(f"{name} {verb}", inner)


def usage(context: click.Context) -> str:
    """Return the usage line without the word Usage."""
    return " ".join(context.command.collect_usage_pieces(context))


def paragraphs(context: click.Context) -> list[str]:
    """Return the paragraphs of the help text."""
    return [" ".join(part.split()) for part in (context.command.help or "").split("\n\n")]


def options(context: click.Context) -> list[tuple[str, str]]:
    """Return the options with their help."""
    records = (parameter.get_help_record(context) for parameter in context.command.get_params(context))
    return [(record[0], " ".join(record[1].split())) for record in records if record is not None and record[1]]


def verbs(context: click.Context) -> list[tuple[str, str]]:
    """Return the verbs of a group with one line each."""
    group = context.command
    known = getattr(group, "verbs", {})
    return [(name, verb.help) for name, verb in known.items()]


def roff(text: str) -> str:
    """Return text that roff prints as it is."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in escaped.split("\n"))


def manual(name: str, context: click.Context) -> str:
    """Return the manual page of a command."""
    title = name.replace(" ", "-")
    text = paragraphs(context)
    lines = [
        f'.TH "{title.upper()}" "1" "" "cvtrace {cvtrace.__version__}" "User Commands"',
        ".SH NAME",
        rf"{roff(title)} \- {roff(text[0].rstrip('.'))}",
        ".SH SYNOPSIS",
        rf".B {roff(name)}",
        roff(usage(context)),
        ".SH DESCRIPTION",
    ]
    for paragraph in text:
        lines += [".PP", roff(paragraph)]
    for heading, rows in (("COMMANDS", verbs(context)), ("OPTIONS", options(context))):
        if rows:
            lines.append(f".SH {heading}")
        for term, description in rows:
            lines += [".TP", rf"\fB{roff(term)}\fR", roff(description)]
    examples = EXAMPLES.get(name.removeprefix("cvtrace").strip(), ())
    if examples:
        lines.append(".SH EXAMPLES")
    for command, description in examples:
        lines += [".PP", roff(description), ".nf", f"    {roff(as_typed(command, SUDO))}", ".fi"]
    lines.append(".SH EXIT STATUS")
    for code, description in EXIT_CODES:
        lines += [".TP", roff(code), roff(description.replace("`", ""))]
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return docs/commands.md."""
    out = ["# Commands", "", "`make man` writes this page and the manual pages from the commands themselves.", ""]
    out += ["`cvtrace help VERB` and `cvtrace VERB --help` print the same text.", "", "## Exit codes", ""]
    out += [
        "| exit code | meaning |",
        "|---|---|",
        *(f"| {code} | {description} |" for code, description in EXIT_CODES),
    ]
    out += ["", "## Shell completion", "", "Add the line of your shell to its start file:", ""]
    out += ["| shell | line | file |", "|---|---|---|", *(f"| {a} | `{b}` | `{c}` |" for a, b, c in COMPLETION), ""]
    for name, context in commands():
        if name == "cvtrace":
            continue
        out += [f"## {name}", "", f"`{name} {usage(context)}`", ""]
        for paragraph in paragraphs(context):
            out += [paragraph, ""]
        rows = verbs(context) or options(context)
        out += [f"| {'verb' if verbs(context) else 'option'} | |", "|---|---|"]
        out += [f"| `{term}` | {description} |" for term, description in map(_cells, rows)]
        out += ["", "<!-- test: syntax -->", "```sh"]
        examples = EXAMPLES[name.removeprefix("cvtrace ")]
        out += [f"# {description}\n{as_typed(command, SUDO)}" for command, description in examples]
        out += ["```", ""]
    return "\n".join(out).rstrip() + "\n"


def _cells(row: tuple[str, str]) -> tuple[str, str]:
    return row[0].replace("|", r"\|"), row[1].replace("|", r"\|")


def write() -> None:
    """Write all of it."""
    MAN.mkdir(exist_ok=True)
    for old in MAN.glob("*.1"):
        old.unlink()
    for name, context in commands():
        (MAN / f"{name.replace(' ', '-')}.1").write_text(manual(name, context), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
    print(f"{len(list(MAN.glob('*.1')))} pages in {MAN.relative_to(ROOT)}", file=sys.stderr)
