"""The Python API behind ``import noisybench as nb``, one module per subject."""
