"""Zero-shot and few-shot: demonstrations chosen, prompts calibrated and searched; nothing is trained.

measure   log p of labels behind a question and its demonstrations
"""
