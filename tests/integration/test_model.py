"""Built models in the real onnxruntime-genai, and the example script on them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cvtrace.lab.memory import limited
from cvtrace.lab.model import build

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "phi3-qa.py"
ENVIRONMENT = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}

GENERATE = """
import json, resource, sys
import onnxruntime_genai as og
model = og.Model(sys.argv[1])
tokenizer = og.Tokenizer(model)
params = og.GeneratorParams(model)
params.set_search_options(max_length=int(sys.argv[3]))
generator = og.Generator(model, params)
generator.append_tokens(tokenizer.encode("<|user|>\\nWhat is a muon?<|end|>\\n<|assistant|>\\n"))
tokens, blocks = [], []
while not generator.is_done() and len(tokens) < int(sys.argv[2]):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    generator.generate_next_token()
    blocks.append(resource.getrusage(resource.RUSAGE_SELF).ru_inblock - before)
    tokens.append(int(generator.get_next_tokens()[0]))
print(json.dumps([tokens, blocks, tokenizer.decode(tokens)]))
"""


def generate(model: Path, tokens: int, max_length: int = 1000) -> list[str]:
    """Return the command line that generates and prints tokens, blocks read per token, and the text."""
    return [sys.executable, "-c", GENERATE, str(model), str(tokens), str(max_length)]


def run(argv: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def result(argv: list[str]) -> tuple[list[int], list[int], str]:
    import json

    result = run(argv)
    assert result.returncode == 0, result.stderr
    tokens, blocks, text = json.loads(result.stdout)
    return tokens, blocks, text


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("models") / "tiny", 1_000_000).directory


@pytest.mark.parametrize("variant", [{}, {"inline": True}, {"mapped": True}, {"seed": 5}])
def test_every_variant_generates_words_that_do_not_repeat(tmp_path: Path, variant: dict[str, bool]) -> None:
    # GIVEN
    model = build(tmp_path / "model", 5_000_000, **variant).directory

    # WHEN
    tokens, _, text = result(generate(model, 200))
    again, _, _ = result(generate(model, 200))

    # THEN
    assert len(tokens) == len(set(tokens)) == 200
    assert tokens == again
    assert re.fullmatch(r"(\s?[a-z]+)+", text)


def test_generation_ends_at_max_length_and_not_before(tiny: Path) -> None:
    tokens, _, _ = result(generate(tiny, 10_000, max_length=1000))
    assert 950 < len(tokens) < 1000


@pytest.mark.root
def test_mapped_weights_are_read_again_for_every_token_under_a_memory_limit(tmp_path: Path) -> None:
    # GIVEN a model that does not fit beside the interpreter and its libraries
    model = build(tmp_path / "model", 200_000_000, mapped=True).directory
    argv = generate(model, 4)
    for path in model.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    # WHEN
    with limited(argv, 128 << 20) as inside:
        tokens, blocks, _ = result(inside)

    # THEN the first token only samples; each later one reads weights, 512 bytes a block
    assert len(tokens) == 4
    assert min(blocks[1:]) * 512 > 20_000_000


def test_the_example_answers_a_prompt_and_prints_the_timings(tiny: Path) -> None:
    # WHEN
    result = run([sys.executable, str(EXAMPLE), "-m", str(tiny), "-e", "cpu", "-v", "-g", "-l", "60", "-p", "Why?"])

    # THEN
    assert result.returncode == 0, result.stderr
    seconds, number, rate = r"\d+\.\d\ds", r"(\d+)", r"\d+\.\d\d tps"
    line = re.search(
        rf"^Load time: {seconds}, Prompt length: {number}, New tokens: {number}, Time to first: {seconds}, "
        rf"Prompt tokens per second: {rate}, New tokens per second: {rate}$",
        result.stdout,
        re.MULTILINE,
    )
    assert line, result.stdout
    assert int(line[1]) + int(line[2]) == 60


def test_the_example_prompts_until_quit(tiny: Path) -> None:
    # WHEN
    argv = [sys.executable, str(EXAMPLE), "-m", str(tiny), "--tokens", "7", "-g"]
    result = run(argv, input="What?\n\nWho?\nquit\nWhere?\n")

    # THEN
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("New tokens: 7,") == 2


@pytest.mark.parametrize(
    "change, message",
    [
        ({"-m": "/nowhere"}, "no model folder at /nowhere"),
        ({"-m": "/"}, "/ has no genai_config.json"),
        ({"-l": "100000"}, "max_length"),
        ({"-l": "3"}, "exceeds max length (3)"),
    ],
)
def test_the_example_reports_an_error_in_one_sentence(tiny: Path, change: dict[str, str], message: str) -> None:
    options = {"-m": str(tiny), "-p": "Why?"} | change
    result = run([sys.executable, str(EXAMPLE), *(text for pair in options.items() for text in pair)])
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
