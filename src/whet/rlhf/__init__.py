"""The circle: a supervised start, preferences, a reward model, a policy that learns from it, and what people would say.

run.py          the stages, each in its folder; a stage that is done is not done again
ask.py          answers of a model to prompts
preferences.py  answers sampled and judged, or a review's results, as rows of `prompt`, `chosen` and `rejected`
before_after.py the start and the result on held-out prompts
page.py         all of it on a page
"""
