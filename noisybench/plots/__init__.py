"""Matplotlib figures of runs, label sets, detectors, probes and traces."""
