"""The calls of the GenAI C API that mark phases, in the order their index is written into traces.

The Python module, C++ and C# all go through these exports of libonnxruntime-genai (wheels since 0.7).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Function:
    """An exported function and the phase its call belongs to."""

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
)
"""Append only: traces store the index."""

INDEX: Final = {function.symbol: index for index, function in enumerate(FUNCTIONS)}
