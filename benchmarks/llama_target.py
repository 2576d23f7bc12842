"""A target of the benchmark of runtimes: the server of llama.cpp answers one request. Run as a script: MODEL TOKENS."""

import sys

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx, parameters.n_parallel, parameters.warmup, parameters.fit_params = 512, 1, False, False
server = xllamacpp.Server(parameters)
request = {"prompt": "the rain in spain", "n_predict": int(sys.argv[2]), "ignore_eos": True, "cache_prompt": False}
server.handle_completions(request)
