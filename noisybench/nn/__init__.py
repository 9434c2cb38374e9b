"""Helpers for torch modules."""
