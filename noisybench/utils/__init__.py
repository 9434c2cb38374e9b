"""Files, seeds, locks and processes."""
