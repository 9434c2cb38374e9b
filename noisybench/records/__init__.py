"""The record of a run, and the selection rules that read it."""
