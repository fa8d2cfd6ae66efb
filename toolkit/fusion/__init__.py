"""Mix-of-Show's gradient fusion (arXiv 2305.18292): one set of weights out of several concepts."""
