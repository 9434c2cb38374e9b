"""What is learned: one file per task."""

# The same file under a second module name would be a second class: registries and pickles would break.
if __name__ != "noisybench.tasks":
    raise ImportError("import this package as `noisybench.tasks`")
