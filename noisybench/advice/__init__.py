"""Advice: which stack of mitigations to use on given labels, and how far the advice can be trusted."""
