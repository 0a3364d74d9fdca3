"""Image sets by name, subsets of them, and batches that depend on (seed, n) alone."""
