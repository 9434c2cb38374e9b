"""Tasks: one file per task; the file name is the public name."""

# The same file under a second module name would define a second class, which breaks registries and pickles.
if __name__ != "noisybench.tasks":
    raise ImportError("import this package as `noisybench.tasks`")
