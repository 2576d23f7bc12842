"""A byte-level BPE tokenizer whose words are syllables, so that answers can be read aloud if not understood.

Token ids: 0-255 the bytes, then the words, then the special tokens. Every word can be reached by merges.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

SPECIAL: Final = ("<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
BYTES: Final = 256

_CONSONANTS: Final = "bdfghjklmnprstvwz"
_VOWELS: Final = "aeiou"


def byte_characters() -> list[str]:
    """Return the printable character that stands for each byte, as GPT-2 defined it and others kept it."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    characters = {byte: chr(byte) for byte in printable}
    remaining_bytes = (byte for byte in range(BYTES) if byte not in characters)
    characters.update({byte: chr(BYTES + position) for position, byte in enumerate(remaining_bytes)})
    return [characters[byte] for byte in range(BYTES)]


def _merges() -> Iterator[tuple[str, str]]:
    """Yield pairs to merge, parents before children: ka, Ġka, Ġkalo, Ġkalomi."""
    syllables = [(consonant, vowel) for consonant in _CONSONANTS for vowel in _VOWELS]
    yield from syllables
    joined = [consonant + vowel for consonant, vowel in syllables]
    starts = ["Ġ"]
    while True:
        pairs = list(itertools.product(starts, joined))
        yield from pairs
        starts = [left + right for left, right in pairs]


def words(vocabulary: int) -> int:
    """Return how many of `vocabulary` tokens are words."""
    return vocabulary - BYTES - len(SPECIAL)


def special_ids(vocabulary: int) -> dict[str, int]:
    """Return the ids of the special tokens: the last ones."""
    first = vocabulary - len(SPECIAL)
    return {text: first + position for position, text in enumerate(SPECIAL)}


def write(directory: Path, vocabulary: int, context: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json for `vocabulary` tokens."""
    pairs = list(itertools.islice(_merges(), words(vocabulary)))
    tokens = [*byte_characters(), *(left + right for left, right in pairs)]
    specials = special_ids(vocabulary)
    added = [
        {"id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for text, number in specials.items()
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model: dict[str, Any] = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    model |= {
        "vocab": {token: number for number, token in enumerate(tokens)} | specials,
        "merges": [f"{left} {right}" for left, right in pairs],
    }
    _dump(
        directory / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": None,
            "decoder": byte_level,
            "model": model,
        },
    )
    _dump(directory / "tokenizer_config.json", _configuration(specials, context))
    _dump(directory / "special_tokens_map.json", {"eos_token": "<|end|>", "pad_token": "<|endoftext|>"})


def _configuration(specials: dict[str, int], context: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(number): {"content": text, "lstrip": False, "normalized": False, "rstrip": False}
            | {"single_word": False, "special": True}
            for text, number in specials.items()
        },
        "bos_token": "<|endoftext|>",
        "eos_token": "<|end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "model_max_length": context,
        "chat_template": (
            "{% for message in messages %}"
            "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
            "{% endfor %}{{ '<|assistant|>\n' }}"
        ),
    }


def _dump(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
