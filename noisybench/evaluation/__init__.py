"""Scores of a run: pure functions of predictions and clean labels, and the evaluators that call them."""
