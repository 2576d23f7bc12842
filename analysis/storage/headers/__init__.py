"""Where the tensors of a model lie in its files, from the headers of the files: ONNX, safetensors, GGUF.

    source        reading a file here and there, within limits
    tensor        what is told of a tensor
    onnx, safetensors, gguf   one parser for each format; no weights are read
    files         which files are read, by whom, and how long
    in_trace      what a trace keeps of it, if the user wants that

Nothing of it is written into a trace unasked. May be imported from here: what `__all__` names.
"""

from cvtrace.analysis.storage.headers.files import Headers, headers_of, headers_on_mounts, headers_under
from cvtrace.analysis.storage.headers.tensor import HeaderTensor

__all__ = ["HeaderTensor", "Headers", "headers_of", "headers_on_mounts", "headers_under"]
