"""A third-party package with one noise model and two mitigations."""
