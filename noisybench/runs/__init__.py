"""Execute one run."""
