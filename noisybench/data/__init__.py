"""Datasets, targets, noise models and label sets."""
