"""Reproducible corruptions of targets: one file per noise model, file name = public name."""

# The same file under a second module name would be a second class: registries and pickles would break.
if __name__ != "noisybench.noise_models":
    raise ImportError("import this package as `noisybench.noise_models`")
