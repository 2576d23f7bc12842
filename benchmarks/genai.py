"""The target of the benchmarks: loads a model and decodes; prints {"load_s", "decode_s"}. Run as a script."""

import json
import sys
import time

import onnxruntime_genai as og

started_s = time.perf_counter()
model = og.Model(sys.argv[1])
loaded_s = time.perf_counter()
tokens = og.Tokenizer(model).encode("rain")
parameters = og.GeneratorParams(model)
parameters.set_search_options(max_length=len(tokens) + int(sys.argv[2]) + 2)
generator = og.Generator(model, parameters)
generator.append_tokens(tokens)
generator.generate_next_token()  # only samples what the prompt gave
begun_s = time.perf_counter()
for _ in range(int(sys.argv[2])):
    generator.generate_next_token()
ended_s = time.perf_counter()
print(json.dumps({"load_s": loaded_s - started_s, "decode_s": ended_s - begun_s}))
