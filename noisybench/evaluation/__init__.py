"""Scores computed from predictions and clean labels."""
