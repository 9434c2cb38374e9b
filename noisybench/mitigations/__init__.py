"""Mitigations of label noise: one file per method, whose name is the registered name."""
