"""Execute many runs on one or several machines."""
