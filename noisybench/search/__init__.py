"""Hyperparameter searches with Optuna, selected by validation labels and evaluated with fresh seeds."""
