"""Detectors of mislabeled examples as pure functions of given numbers, one room for each kind of numbers."""
