"""onnxruntime: sessions in Python, whose wheels contain a stripped library of which nothing is exported."""

from __future__ import annotations

from typing import Final

from cvtrace.probes.phases.runtimes.declaration import Function, Method, Runtime

ONNXRUNTIME: Final = Runtime(
    name="onnxruntime in Python",
    functions=(
        Function(17, "onnxruntime.InferenceSession", "load"),
        Function(18, "onnxruntime.InferenceSession.run", "run"),
    ),
    methods=(
        (
            "onnxruntime",
            (  # `run_async` only hands over
                Method("InferenceSession", "__init__", "onnxruntime.InferenceSession"),
                Method("InferenceSession", "run", "onnxruntime.InferenceSession.run"),
                Method("InferenceSession", "run_with_iobinding", "onnxruntime.InferenceSession.run"),
                Method("InferenceSession", "run_with_ort_values", "onnxruntime.InferenceSession.run"),
            ),
        ),
    ),
    tokens="none: a `run` is a run",
    hook="module `onnxruntime`",
    tested="the wheel itself",
)
