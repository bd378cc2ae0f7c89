"""Is a text toxic? A lexicon that reads context, and classifiers that users train from rows of their own."""
