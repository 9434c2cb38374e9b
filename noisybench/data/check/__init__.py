"""A look at a dataset before anything is trained on it: facts, and their report as text and as a page."""
