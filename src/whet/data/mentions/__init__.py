"""Which groups of people a text speaks of, and in what words."""
