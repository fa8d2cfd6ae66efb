"""Second passes: what is done with a finished picture."""
