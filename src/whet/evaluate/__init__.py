"""The room of measurements: each figure with an interval, and two models compared honestly. `whet.evaluate(...)`
measures.

subject      a model opened, rows read
score        log-probabilities on the trie; perplexity, choice and likelihood are made of them
metrics/     functions of completions and columns
measure      figures as sums over rows, and their bootstrap
run          `evaluate`
compare      paired differences
judge        a model that grades answers, or prefers one of two
tasks        lm-eval's task files; benchmark: an evaluation on them
training     `evaluate:` of a recipe: before, during and after training
result       evaluation.json, rows.parquet, report.html; plots
"""

from whet.entrance import callable_room

callable_room(__name__, "whet.api", "evaluate")
