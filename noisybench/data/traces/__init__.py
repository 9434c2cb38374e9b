"""Execution traces of programs as text, with checks by re-execution.

A trace shows the run of a program: one line per step, then the answer. `programs` holds the contract of programs,
`builtin_programs` the available ones; `recorder` records their runs, inserts errors and replays written traces. `formats`
converts prompts and traces to tokens and checks traces by re-execution; `gsm8k_calculations` is the format of word
problems with annotated calculations.
"""
