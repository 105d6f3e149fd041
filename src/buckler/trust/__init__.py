"""Signed statements: who said what, checked against keys that a chain from the pool root names. No I/O, no randomness."""
