"""One file for each method, and the formulas that they share."""
