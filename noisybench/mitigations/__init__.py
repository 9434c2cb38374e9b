"""Remedies for wrong labels: one file per mitigation, file name = public name."""
