"""Frozen vectors: what reference implementations compute from small inputs, and tests that hold ours against them."""
