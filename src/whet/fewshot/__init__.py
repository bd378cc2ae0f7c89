"""Few-shot: what can be learnt from a handful of labelled rows, by tuning and in context, on the same test rows."""
