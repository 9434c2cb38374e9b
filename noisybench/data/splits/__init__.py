"""Splits: their names, how they are drawn, and what must not be in two of them."""
