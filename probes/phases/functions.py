"""The calls that mark phases, in the order their index is written into traces.

Those of the GenAI C API are exports of libonnxruntime-genai (wheels since 0.7) that the Python module, C++ and C# all go
through. The others have no symbol: they are marked inside the target (hook.py, and cvtrace/marking.py).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Function:
    """A function and the phase its call belongs to."""

    symbol: str
    phase: str


FUNCTIONS: Final = (
    Function("OgaCreateConfig", "load"),
    Function("OgaCreateModel", "load"),
    Function("OgaCreateModelFromConfig", "load"),
    Function("OgaCreateModelWithRuntimeSettings", "load"),
    Function("OgaCreateTokenizer", "tokenizer"),
    Function("OgaTokenizerEncode", "tokenizer"),
    Function("OgaTokenizerEncodeBatch", "tokenizer"),
    Function("OgaCreateGenerator", "prefill"),
    Function("OgaGenerator_AppendTokens", "prefill"),
    Function("OgaGenerator_AppendTokenSequences", "prefill"),
    Function("OgaGenerator_SetInputs", "prefill"),
    Function("OgaGenerator_GenerateNextToken", "decode"),
    Function("OgaDestroyGenerator", "teardown"),
    Function("OgaDestroyTokenizer", "teardown"),
    Function("OgaDestroyModel", "teardown"),
    Function("OgaShutdown", "teardown"),
    Function("cvtrace.phase", "user"),
    Function("onnxruntime.InferenceSession", "load"),
    Function("onnxruntime.InferenceSession.run", "run"),
)
"""Append only: traces store the index."""

INDEX: Final = {function.symbol: index for index, function in enumerate(FUNCTIONS)}

USER_PHASE: Final = INDEX["cvtrace.phase"]
"""A phase that the script names: the name is the event's text."""
