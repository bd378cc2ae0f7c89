"""A run's result in the formats that others load, each compared with the run before it is left behind.

formats.py          `whet.export`            source.py          what is exported, and to what it can be
gate.py             the comparison: prompts, stop tokens, logits, greedy tokens
hf.py               hf, peft and vLLM folders                   merge.py   an adapter written into the weights
llama_cpp.py        gguf and ollama folders                     ollama.py  a chat template in Ollama's language
gguf_file.py        a GGUF file, written and read back
gguf_models.py      what llama.cpp calls things                 gguf_tokenizer.py  its tokenizer, written and read back
"""
