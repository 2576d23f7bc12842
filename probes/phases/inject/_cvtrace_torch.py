"""Marks of transformers and vLLM that need more than a begin and an end: which call of a model is a prompt, and how many tokens it made.

Runs in any Python from 3.9 on and imports nothing of cvtrace. It is loaded when one of these packages is imported. Where torch.compile traces a
call, nothing is done but to call on.
"""

from __future__ import annotations

import sys
from threading import local
from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MANY = 2**32 - 1
"""So many tokens: it is not known how many."""

GUESSING = ("assistant_model", "prompt_lookup_num_tokens", "custom_generate")
"""Arguments of generate with which a call of the model makes any number of tokens."""


class Generating(local):
    """Of a thread: whether a call of a model is under way, and which model generates, for how many sequences (0: unknown)."""

    inside = False
    model: Any = None
    calls = 0
    many = False


STATE = Generating()


def is_compiling() -> bool:
    """Whether torch traces what is called now."""
    compiler = getattr(sys.modules.get("torch"), "compiler", None)
    ask = getattr(compiler, "is_compiling", None)
    return bool(ask and ask())


def wrap_call(
    kind: Any, original: Callable[..., Any], run: int, steps: tuple[int, int], marks: Any
) -> Callable[..., Any]:
    """Return `__call__` of a model: within generate a prompt or a step of decode (`steps`), elsewhere a `run`; the outermost of a thread."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_compiling() or STATE.inside:
            return original(self, *args, **kwargs)
        index, tokens = run, 0
        if STATE.model is self:
            index = steps[STATE.calls > 0]
            tokens = MANY if STATE.many else sequences(args, kwargs)
            STATE.calls += 1
        marks.before(index)
        STATE.inside, failed, begin = True, True, monotonic_ns()
        try:
            result = original(self, *args, **kwargs)
            failed = False
            return result
        finally:
            STATE.inside = False
            marks.mark(index, begin, monotonic_ns(), failed, id(self), tokens)

    return call


def sequences(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Return how many sequences a call of a model continues, MANY if that is not seen."""
    inputs = [*args, *(kwargs.get(name) for name in ("input_ids", "decoder_input_ids", "inputs_embeds"))]
    for each in inputs:
        shape = getattr(each, "shape", None)
        if shape is not None and len(shape):
            return int(shape[0])
    return MANY


def wrap_generate(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `generate`, which lets calls of its model be prompts and steps."""

    def generate(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = STATE.model, STATE.calls, STATE.many
        STATE.model, STATE.calls, STATE.many = self, 0, has_many(self, kwargs)
        try:
            return original(self, *args, **kwargs)
        finally:
            STATE.model, STATE.calls, STATE.many = before

    return generate


def has_many(model: Any, kwargs: dict[str, Any]) -> bool:
    """Tell whether a call may make another number of tokens than it has sequences: with beams, or with guesses."""
    if any(kwargs.get(name) for name in GUESSING):
        return True
    settings = kwargs.get("generation_config") or getattr(model, "generation_config", None)
    return int(kwargs.get("num_beams") or getattr(settings, "num_beams", 1) or 1) > 1


def wrap_step(original: Callable[..., Any], steps: tuple[int, int], marks: Any) -> Callable[..., Any]:
    """Return `execute_model` of a worker of vLLM: a step in which a request has several tokens is a prompt."""

    def execute_model(self: Any, *args: Any, **kwargs: Any) -> Any:
        plan = args[0] if args else next(iter(kwargs.values()), None)
        scheduled = getattr(plan, "num_scheduled_tokens", None)
        counts = list(scheduled.values()) if isinstance(scheduled, dict) else []
        index = steps[not any(count > 1 for count in counts)]
        marks.before(index)
        result, failed, begin = None, True, monotonic_ns()
        try:
            result = original(self, *args, **kwargs)
            failed = False
            return result
        finally:
            marks.mark(index, begin, monotonic_ns(), failed, id(self), sampled(result, counts))

    return execute_model


def sampled(result: Any, counts: list[int]) -> int:
    """Return how many tokens a step made: those of its result, or one of each request that it continued."""
    ids = getattr(result, "sampled_token_ids", None)
    if isinstance(ids, list):
        return sum(len(each) for each in ids if isinstance(each, list))
    return len(counts) if counts and all(count == 1 for count in counts) else MANY if counts else 0


def wrapper(
    how: str, kind: Any, original: Any, function: int, steps: tuple[int, int], marks: Any
) -> Callable[..., Any]:
    """Return what stands in for a method; `steps` are the numbers of a prompt and of a step of decode."""
    if how == "call":
        wrapped = wrap_call(kind, original, function, steps, marks)
    elif how == "generate":
        wrapped = wrap_generate(original)
    else:
        wrapped = wrap_step(original, steps, marks)
    from functools import update_wrapper

    return update_wrapper(wrapped, original)
