"""Simulated relabeling: which order of labels to look at finds most errors and helps training most."""
