"""Mutation testing: small deliberate mistakes in the code, and whether the tests notice them. By hand, not in CI."""
