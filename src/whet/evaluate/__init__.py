"""The room of measurements: each figure with an interval, and two models compared honestly.

subject      a model opened, rows read
score        log-probabilities on the trie; perplexity, choice and likelihood are made of them
metrics/     functions of completions and columns
measure      figures as sums over rows, and their bootstrap
run          `evaluate`
compare      paired differences
tasks        lm-eval's task files
result       evaluation.json, rows.parquet, report.html; plots
"""
