"""Fuzz test of the command line: generated inputs for every command."""
