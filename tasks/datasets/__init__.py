"""Datasets, one file per dataset or family; the file name is the public name."""

# The same file under a second module name would be a second class: registries and pickles would break.
if __name__ != "noisybench.tasks.datasets":
    raise ImportError("import this package as `noisybench.tasks.datasets`")
