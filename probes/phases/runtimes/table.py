"""All declared runtimes, in the order of docs/probes.md."""

from __future__ import annotations

import re
from typing import Final

from cvtrace.probes.phases.runtimes.declaration import Runtime
from cvtrace.probes.phases.runtimes.genai import GENAI
from cvtrace.probes.phases.runtimes.llama import LLAMA
from cvtrace.probes.phases.runtimes.named import NAMED, OWN
from cvtrace.probes.phases.runtimes.onnxruntime import ONNXRUNTIME, ORT_API
from cvtrace.probes.phases.runtimes.transformers import TORCH, TRANSFORMERS
from cvtrace.probes.phases.runtimes.vllm import VLLM

RUNTIMES: Final[tuple[Runtime, ...]] = (GENAI, ONNXRUNTIME, ORT_API, LLAMA, TRANSFORMERS, TORCH, VLLM, NAMED, OWN)

LIBRARY: Final = re.compile("|".join(runtime.library for runtime in RUNTIMES if runtime.library).encode())
"""Matches the name of a file that contains functions of a runtime."""

PROGRAM: Final = re.compile("|".join(runtime.program for runtime in RUNTIMES if runtime.program).encode())
"""Matches the name of a program that contains functions of a runtime."""

MODULE_FILE: Final = re.compile(
    "|".join(
        f"(?P<runtime{place}>{each.module_file})" for place, each in enumerate(RUNTIMES) if each.module_file
    ).encode()
)
"""Matches the name of a file that the interpreter opens to load a runtime's module; the name of the group has its place in RUNTIMES."""

MODULES: Final = tuple(module for runtime in RUNTIMES for module, _ in runtime.methods)
"""Python modules that the hook wraps."""
