"""Records of runs, and the selection rules that read them."""
