"""Audit of reasoning traces: scores of traces and of their steps."""
