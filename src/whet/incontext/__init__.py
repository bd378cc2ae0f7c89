"""Zero-shot and few-shot: demonstrations chosen, prompts calibrated and searched; nothing is trained.

measure   log p of labels behind a question and its demonstrations
rows      labelled rows: to show, to search by
search    successive halving over candidates
run       from rows to the best prompt
folder    the prompt run in files
"""
