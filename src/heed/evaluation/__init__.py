"""Tasks and suites: scores per item, before and after, by the same code."""
