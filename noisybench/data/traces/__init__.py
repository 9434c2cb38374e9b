"""Chains of thought that can be executed again: machines, programs on them, and the formats in which traces are written.

A trace is the text by which a program's run is shown: a line for each step, then the answer. `machine` makes the integers
of a run, wrong ones where it is told to, or follows a run that was written down. `programs` run on it. `formats`
know how prompts and traces are written as characters, and judge them by executing them again; `calculations` is the
format of word problems with annotated calculations.
"""
