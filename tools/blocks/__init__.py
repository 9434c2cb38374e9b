"""Blocks of measured numbers: what each kind shows of an entry that ships, and how it becomes text."""
