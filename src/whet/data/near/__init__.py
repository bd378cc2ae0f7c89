"""Which texts are alike: n-grams of words as numbers, MinHash, pairs verified by true Jaccard, clusters."""
