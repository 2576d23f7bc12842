"""The calls that mark phases, in the order their index is written into traces.

Those of the GenAI C API are exports of libonnxruntime-genai (wheels since 0.7) that the Python module, C++ and C# all go
through. The others have no symbol: they are marked inside the target (hook.py, and cvtrace/marking.py).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Function:
    """A function and the phase its call belongs to; those of phase `note` take no time, but describe others.

    `detail` is what the field `c` of its event says, where the probe can read it.
    """

    symbol: str
    phase: str
    detail: str = ""


FUNCTIONS: Final = (
    Function("OgaCreateConfig", "load"),
    Function("OgaCreateModel", "load"),
    Function("OgaCreateModelFromConfig", "load"),
    Function("OgaCreateModelWithRuntimeSettings", "load"),
    Function("OgaCreateTokenizer", "tokenizer"),
    Function("OgaTokenizerEncode", "tokenizer"),
    Function("OgaTokenizerEncodeBatch", "tokenizer"),
    Function("OgaCreateGenerator", "prefill", "the generator that was made"),
    Function("OgaGenerator_AppendTokens", "prefill"),
    Function("OgaGenerator_AppendTokenSequences", "prefill", "the number of sequences"),
    Function("OgaGenerator_SetInputs", "prefill"),
    Function("OgaGenerator_GenerateNextToken", "decode"),
    Function("OgaDestroyGenerator", "teardown"),
    Function("OgaDestroyTokenizer", "teardown"),
    Function("OgaDestroyModel", "teardown"),
    Function("OgaShutdown", "teardown"),
    Function("cvtrace.phase", "user"),
    Function("onnxruntime.InferenceSession", "load"),
    Function("onnxruntime.InferenceSession.run", "run"),
    # Of GenAI 0.9 to 0.18: engines, generators of several tokens at once, pictures and sound, adapters.
    Function("OgaCreateConfigFromPackageEp", "load"),
    Function("OgaRegisterExecutionProviderLibrary", "load"),
    Function("OgaLoadAdapter", "load"),
    Function("OgaCreateEngine", "load"),
    Function("OgaCreateMtpGenerator", "load"),
    Function("OgaCreateTokenizerFromConfig", "tokenizer"),
    Function("OgaCreateTokenizerFromPath", "tokenizer"),
    Function("OgaCreateMultiModalProcessor", "tokenizer"),
    Function("OgaCreateStreamingProcessor", "tokenizer"),
    Function("OgaProcessorProcessImages", "prefill"),
    Function("OgaProcessorProcessImagesAndPrompts", "prefill"),
    Function("OgaProcessorProcessAudios", "prefill"),
    Function("OgaProcessorProcessAudiosAndPrompts", "prefill"),
    Function("OgaProcessorProcessImagesAndAudios", "prefill"),
    Function("OgaProcessorProcessImagesAndAudiosAndPrompts", "prefill"),
    Function("OgaStreamingProcessorProcess", "prefill"),
    Function("OgaGenerator_RewindTo", "prefill"),
    Function("OgaMtpGenerator_AppendTokens", "prefill"),
    Function("OgaEngineAddRequest", "prefill"),
    Function("OgaRequestContinue", "prefill"),
    Function("OgaRequestBeginTurn", "prefill"),
    Function("OgaRequestRewindToStartOfTurn", "prefill"),
    Function("OgaEngineStep", "decode"),
    Function("OgaEngineRun", "decode"),
    Function("OgaMtpGenerator_GenerateNextToken", "decode"),
    Function("OgaDestroyEngine", "teardown"),
    Function("OgaDestroyMtpGenerator", "teardown"),
    Function("OgaDestroyMultiModalProcessor", "teardown"),
    Function("OgaDestroyAdapters", "teardown"),
    Function("OgaGenerator_GetNextTokens", "note", "the number of tokens, one of each sequence"),
    Function("OgaGeneratorParamsSetSearchNumber", "note", "BATCH or BEAMS: which number it sets"),
    Function("OgaEngineEventGetRequest", "note", "the request that the event is of"),
    Function("OgaEngineEventGetFlags", "note", "the flags of the event: 1 for a token"),
    Function("OgaEngineEventGetToken", "note"),
    Function("cvtrace.sequences", "note", "how many sequences the generator that was made in this time has"),
)
"""Append only: traces store the index."""

BATCH, BEAMS = 1, 2
"""Of OgaGeneratorParamsSetSearchNumber: it sets batch_size, or a number of beams or of sequences."""

TOKEN_FLAG: Final = 1
"""Of OgaEngineEventGetFlags: the event is a token."""

INDEX: Final = {function.symbol: index for index, function in enumerate(FUNCTIONS)}

NOTES: Final = frozenset(index for index, function in enumerate(FUNCTIONS) if function.phase == "note")

USER_PHASE: Final = INDEX["cvtrace.phase"]
"""A phase that the script names: the name is the event's text."""
