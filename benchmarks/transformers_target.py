"""A target of the benchmark of runtimes: transformers generates; with `make WIDTH LAYERS VOCABULARY` it saves a random model. Run as a script."""

import sys

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

if sys.argv[1] == "make":
    width, layers, vocabulary = (int(word) for word in sys.argv[3:6])
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
        )
    ).half().save_pretrained(sys.argv[2])
else:
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float16).eval()
    ids = torch.arange(10, 27)[None]
    tokens = int(sys.argv[2])
    with torch.no_grad():
        model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
        )
