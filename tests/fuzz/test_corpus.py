"""The inputs that the fuzzer found to reach different code, once more, and without the fuzzer: see `make fuzz`."""

from pathlib import Path

import pytest
from fuzz_targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_of_the_corpus_is_taken(name):
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs, "there is no corpus"
    for path in inputs:
        try:
            TARGETS[name](path.read_bytes())
        except Exception as error:
            raise AssertionError(f"{path} breaks it") from error


def test_the_corpus_is_small():
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 1_000_000
