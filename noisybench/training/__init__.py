"""Contracts of training, and the training loop."""
