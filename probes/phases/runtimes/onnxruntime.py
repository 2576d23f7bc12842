"""onnxruntime: its C API, through which C, C++, C#, Java and Rust call it; and sessions in Python.

libonnxruntime exports hardly more than OrtGetApiBase: programs call through a table of pointers. The module of the Python wheel contains a copy of
the library of which nothing is exported.
"""

from __future__ import annotations

from typing import Final

from cvtrace.probes.phases.runtimes.declaration import Function, Method, Runtime

ONNXRUNTIME: Final = Runtime(
    name="onnxruntime in Python",
    module_file=r"onnxruntime_pybind11_state[^/\0]*\.so",
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

ORT_API: Final = Runtime(
    name="onnxruntime in C, C++, C#, Java, Rust",
    library=r"libonnxruntime\.so",
    tails=(b"ntime.so", b"ime.so.1"),
    model=b".onnx",
    functions=(
        Function(79, "OrtApi.CreateSession", "load", slot=7),
        Function(80, "OrtApi.CreateSessionFromArray", "load", slot=8),
        Function(81, "OrtApi.CreateSessionWithPrepackedWeightsContainer", "load", slot=168),
        Function(82, "OrtApi.CreateSessionFromArrayWithPrepackedWeightsContainer", "load", slot=169),
        Function(83, "OrtApi.Run", "run", slot=9),
        Function(84, "OrtApi.RunWithBinding", "run", slot=133),
        Function(85, "OrtApi.RunAsync", "run", slot=260),
        Function(86, "OrtApi.ReleaseSession", "teardown", returns="nothing", slot=95),
    ),
    tokens="none: a `Run` is a run; `RunAsync` is marked until it returns, and the answer for inference is then inconclusive",
    symbols="the table of `OrtGetApiBase` in `libonnxruntime.so`, stripped or not; not in programs that contain a static copy",
    tested="a C program with the library of the wheel, as it is and stripped",
)
