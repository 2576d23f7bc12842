"""Commands in the documentation have verbs and options that exist; pages made from the commands are as the commands are."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import click
import pytest
import yaml

from cvtrace.cli import main
from cvtrace.commands.examples import EXAMPLES, as_typed
from cvtrace.probes.command import SUDO

from .blocks_of_commands import ROOT, Block, blocks, runnable_pages

sys.path.insert(0, str(ROOT / "scripts"))

import make_man

PROGRAM = re.compile(r"^(?:sudo )?(?:\"\$\(command -v cvtrace\)\"|(?:\S*/)?cvtrace) (.*)$")


def command_lines(text: str) -> list[list[str]]:
    """Return the words after cvtrace of each line that calls it."""
    lines = []
    for line in text.replace("\\\n", " ").splitlines():
        match = PROGRAM.match(line.strip())
        if match:
            lines.append(shlex.split(match[1].replace("…", "x"), comments=True))
    return lines


def misuse(words: list[str]) -> str | None:
    """Return what is wrong with the verb or the options of a command line; None if nothing is."""
    context = click.Context(main, info_name="cvtrace")
    command: click.Command = main
    while isinstance(command, click.Group):
        if not words:
            return "no verb"
        inner = command.get_command(context, words[0])
        if inner is None:
            return f"no verb {words[0]}"
        command, words = inner, words[1:]
        context = click.Context(command, info_name=command.name, parent=context)
    known = {name for parameter in command.params for name in parameter.opts} | {"-h", "--help"}
    arguments = not command.context_settings.get("allow_interspersed_args", True)
    options = {name: parameter for parameter in command.params for name in parameter.opts}
    skip = False
    for word in words:
        if skip:
            skip = False
            continue
        if not word.startswith("-"):
            if arguments:
                return None  # what follows is the script's
            continue
        if word == "--":
            return None
        name = word.partition("=")[0]
        if name not in known:
            return f"no option {name} of {command.name}"
        option = options.get(name)
        skip = isinstance(option, click.Option) and not option.is_flag and "=" not in word
    return None


@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"{block.page}: {block.text.splitlines()[0][:40]}")
def test_commands_in_a_block_exist(block: Block) -> None:
    assert block.how in ("run", "syntax") or block.how.startswith("none, "), "the block has no `<!-- test: … -->`"
    for words in command_lines(block.text):
        assert misuse(words) is None, words


WORKFLOW = re.compile(r"<!-- test: workflow -->\n```yaml\n(.*?)```", re.DOTALL)


def test_the_workflow_has_steps_whose_commands_exist() -> None:
    """GIVEN the workflow of docs/ci.md WHEN it is read as YAML THEN each step runs or uses something, and its commands exist."""
    (text,) = WORKFLOW.findall((ROOT / "docs" / "ci.md").read_text(encoding="utf-8"))
    (job,) = yaml.safe_load(text)["jobs"].values()
    scripts = [step["run"] for step in job["steps"] if "run" in step]
    assert all(("run" in step) != ("uses" in step) for step in job["steps"])
    lines = [words for script in scripts for words in command_lines(script)]
    assert [words[0] for words in lines] == ["bench", "compare", "check"]
    for words in lines:
        assert misuse(words) is None, words
    for script in scripts:
        assert subprocess.run(["sh", "-n", "-c", script], check=False).returncode == 0


def test_a_wrong_verb_or_option_in_the_docs_is_detected() -> None:
    assert misuse(["rum", "a.py"]) == "no verb rum"
    assert misuse(["report", "trace", "--opne"]) == "no option --opne of report"
    assert misuse(["lab", "up", "--sizes", "4MB"]) == "no option --sizes of command"
    assert misuse(["run", "-o", "cold", "a.py", "--whatever"]) is None


def test_pages_with_runnable_commands_are_recognised() -> None:
    assert {"docs/measure.md", "docs/ci.md", "docs/without-root.md", "docs/lab.md"} <= set(runnable_pages())


def test_every_verb_has_two_examples_that_parse() -> None:
    names = {name.removeprefix("cvtrace ") for name, _ in make_man.commands() if name != "cvtrace"}
    assert names == set(EXAMPLES)
    for verb, examples in EXAMPLES.items():
        assert len(examples) >= 2, verb
        for command, description in examples:
            (words,) = command_lines(command)
            assert misuse(words) is None, command
            assert " ".join(words).startswith(verb)
            assert description.endswith(".")


def test_the_page_of_commands_is_made_from_the_commands() -> None:
    """GIVEN docs/commands.md WHEN it is made anew THEN it is the same; `make man` writes it."""
    assert (ROOT / "docs" / "commands.md").read_text() == make_man.page()


def test_examples_with_sudo_name_the_program_as_sudo_finds_it() -> None:
    assert as_typed("sudo cvtrace doctor", "sudo /opt/e/bin/cvtrace") == "sudo /opt/e/bin/cvtrace doctor"
    assert "sudo cvtrace" not in make_man.page()
    assert 'sudo "$(command -v cvtrace)" doctor' in make_man.page()


def test_help_of_a_verb_shows_its_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["help", "run"], ["run", "--help"], ["help", "lab", "up"]):
        main(words, standalone_mode=False)
        printed = capsys.readouterr().out
        assert "Examples:" in printed
        assert f"{SUDO} " in printed


@pytest.mark.parametrize("name", ["cvtrace", "cvtrace run", "cvtrace lab up"])
def test_a_manual_page_has_the_sections_of_man_pages(name: str) -> None:
    context = dict(make_man.commands())[name]
    text = make_man.manual(name, context)
    sections = [line.removeprefix(".SH ") for line in text.splitlines() if line.startswith(".SH ")]
    assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert "OPTIONS" in sections
    assert "EXIT STATUS" in sections
