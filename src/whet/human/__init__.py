"""People judge answers, blind: pairs of answers to one prompt, on a web page of this machine.

pairs      files of answers -> pairs, and what was left out
plan       who judges what, in which order, on which side; attention checks; the rubric
folder     the review's folder: settings and items, held by one server
log        judgements.jsonl: append-only, on the disk before the judge hears of it
server     the pages: who may see what, what a judgement must have
results    the log -> preferences, ratings, figures; agreement and strengths are the figures' own
page       the results as files and one page
"""
