"""Loads models in processes of their own, all at once; each logs what it did with times of its own.

fleet_of_four.py LOG MODEL...        one process per MODEL; LOG gets a line of JSON from each
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

TOKENS = 8


def worker(log: str, model: str) -> None:
    """Load and generate, and log: pid, model, and (what, start_ns, end_ns) of each call."""
    import onnxruntime_genai as og

    sys.stdin.readline()  # until all are there
    calls: list[tuple[str, int, int]] = []
    start_ns = time.monotonic_ns()

    def record_call(name: str) -> None:
        nonlocal start_ns
        end_ns = time.monotonic_ns()
        calls.append((name, start_ns, end_ns))
        start_ns = time.monotonic_ns()

    loaded = og.Model(model)
    record_call("load")
    tokenizer = og.Tokenizer(loaded)
    prompt = tokenizer.encode("the rain in spain")
    record_call("tokenizer")
    generator = og.Generator(loaded, og.GeneratorParams(loaded))
    generator.append_tokens(prompt)
    record_call("prefill")
    for _ in range(TOKENS):
        generator.generate_next_token()
        record_call("decode")
    with open(log, "a") as file:  # noqa: PTH123 - nothing more is imported
        file.write(json.dumps({"pid": os.getpid(), "model": model, "calls": calls}) + "\n")


def main() -> None:
    """Start the workers, let them go at once, wait."""
    log, *models = sys.argv[1:]
    command = [sys.executable, __file__, "--worker", log]
    workers = [subprocess.Popen([*command, model], stdin=subprocess.PIPE, text=True) for model in models]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    sys.exit(max(worker.wait() for worker in workers))


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        worker(*sys.argv[2:])
    else:
        main()
