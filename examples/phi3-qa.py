#!/usr/bin/env python3
"""Ask a language model questions with onnxruntime-genai; the answer is printed while it is generated.

    phi3-qa.py -m /cvmfs/…/model -e cpu -v -g -l 256                    asks on the terminal until "quit"
    phi3-qa.py -m /cvmfs/…/model -g -l 256 -p "What is a muon?"         answers once

`-g` prints one line of timings after each answer.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PHI3_TEMPLATE = "<|user|>\n{question} <|end|>\n<|assistant|>"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Ask a language model questions with onnxruntime-genai.")
    add = parser.add_argument
    add("-m", "--model_path", required=True, help="folder of the model, with its genai_config.json")
    add("-e", "--execution_provider", default="follow_config", choices=["cpu", "cuda", "dml", "follow_config"])
    add("-p", "--prompt", help="answer this question and exit; otherwise questions are read until 'quit'")
    add("-l", "--max_length", type=int, help="most tokens of prompt and answer together")
    add("-i", "--min_length", type=int, help="least tokens of prompt and answer together")
    add("--tokens", type=int, metavar="N", help="stop each answer after N new tokens")
    add("-ds", "--do_sample", action="store_true", help="sample instead of taking the likeliest token")
    add("--top_p", type=float)
    add("-k", "--top_k", type=int)
    add("-t", "--temperature", type=float)
    add("-r", "--repetition_penalty", type=float)
    add("-c", "--chat_template", default=PHI3_TEMPLATE, help="with {question} where the question goes")
    add("-v", "--verbose", action="store_true", help="say what is being done")
    add(
        "-g",
        "--timings",
        action="store_true",
        help="print load time, time to first token and tokens per second",
    )
    options = parser.parse_args()
    if "{question}" not in options.chat_template:
        parser.error("--chat_template must contain {question}")
    if options.tokens is not None and options.tokens < 1:
        parser.error("--tokens must be at least 1")
    return options


@dataclass
class Timings:
    """When things happened, in seconds of time.perf_counter()."""

    load_s: float
    started_s: float = 0.0
    first_s: float = 0.0
    finished_s: float = 0.0
    prompt_tokens: int = 0
    new_tokens: int = 0

    def line(self) -> str:
        """Return the line that `-g` prints; rates are 0 when there was nothing to time."""
        to_first_s = self.first_s - self.started_s
        rest_s = self.finished_s - self.first_s
        prompt_tps = self.prompt_tokens / to_first_s if to_first_s > 0 else 0.0
        new_tps = (self.new_tokens - 1) / rest_s if self.new_tokens > 1 and rest_s > 0 else 0.0
        return (
            f"Load time: {self.load_s:.2f}s, Prompt length: {self.prompt_tokens}, "
            f"New tokens: {self.new_tokens}, Time to first: {to_first_s:.2f}s, "
            f"Prompt tokens per second: {prompt_tps:.2f} tps, New tokens per second: {new_tps:.2f} tps"
        )


def load(og: Any, options: argparse.Namespace) -> Any:
    """Load the model of `-m` for the execution provider of `-e`; exits with one sentence when it is not there."""
    folder = Path(options.model_path)
    try:
        if not folder.is_dir():
            sys.exit(f"phi3-qa.py: no model folder at {folder}")
        if not (folder / "genai_config.json").is_file():
            sys.exit(f"phi3-qa.py: {folder} has no genai_config.json: not a model of onnxruntime-genai")
    except OSError as error:
        sys.exit(f"phi3-qa.py: cannot look at {folder}: {error.strerror}")
    if options.execution_provider == "follow_config":
        return og.Model(str(folder))
    config = og.Config(str(folder))
    config.clear_providers()
    if options.execution_provider != "cpu":
        config.append_provider(options.execution_provider)
    return og.Model(config)


def search_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return what was given on the command line; the rest stays as genai_config.json has it."""
    names = ("max_length", "min_length", "top_p", "top_k", "temperature", "repetition_penalty")
    searches = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return searches | {"do_sample": options.do_sample}


def questions(options: argparse.Namespace) -> Iterator[str]:
    """Yield the question of `-p`, or questions typed until "quit" or the end of the input."""
    if options.prompt is not None:
        yield options.prompt
        return
    while True:
        try:
            text = input("Input: ").strip()
        except EOFError:
            return
        if text == "quit":
            return
        if text:
            yield text
        else:
            print("Please ask something, or type quit.")


def answer(og: Any, model: Any, tokenizer: Any, question: str, options: argparse.Namespace, timings: Timings) -> None:
    """Print the answer as its tokens come, and fill in `timings`."""
    timings.started_s = time.perf_counter()
    prompt = tokenizer.encode(options.chat_template.format(question=question))
    params = og.GeneratorParams(model)
    params.set_search_options(**search_options(options))
    generator = og.Generator(model, params)
    if options.verbose:
        print("Generator created", flush=True)
    stream = tokenizer.create_stream()
    generator.append_tokens(prompt)
    timings.prompt_tokens, timings.new_tokens = len(prompt), 0
    print("\nOutput: ", end="", flush=True)
    try:
        while not generator.is_done() and timings.new_tokens != options.tokens:
            generator.generate_next_token()
            timings.new_tokens += 1
            if timings.new_tokens == 1:
                timings.first_s = time.perf_counter()
            print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
    except KeyboardInterrupt:
        print("  (interrupted)", end="")
    timings.finished_s = time.perf_counter()
    print("\n", flush=True)


def main() -> None:
    """Load the model, then answer."""
    options = arguments()
    try:
        import onnxruntime_genai as og
    except ImportError as error:
        sys.exit(f"phi3-qa.py: {error}; pip install onnxruntime-genai")
    try:
        if options.verbose:
            print("Loading model...", flush=True)
        started_s = time.perf_counter()
        model = load(og, options)
        timings = Timings(load_s=time.perf_counter() - started_s)
        if options.verbose:
            print(f"Model loaded in {timings.load_s:.2f}s", flush=True)
        tokenizer = og.Tokenizer(model)
        if options.verbose:
            print("Tokenizer created", flush=True)
        for question in questions(options):
            answer(og, model, tokenizer, question, options, timings)
            if options.timings:
                print(timings.line(), flush=True)
    except (RuntimeError, ValueError, TypeError) as error:  # what onnxruntime-genai raises
        sys.exit(f"phi3-qa.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
