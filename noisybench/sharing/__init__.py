"""Publish label sets, and copy published ones to this machine, with a card and verified digests."""
