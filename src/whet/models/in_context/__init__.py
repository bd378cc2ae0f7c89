"""Prompt runs: a base with an instruction, a template and demonstrations instead of trained weights.

bm25      how near texts are by their words
choose    which demonstrations a question gets, and in which order
prompt    prompt.json; the prompt put before whatever a tokenizer's chat template writes
"""
