"""Recipes, suites and searches, shipped as YAML."""

# The same file under a second module name would be a second class: registries and pickles would break.
if __name__ != "noisybench.configs":
    raise ImportError("import this package as `noisybench.configs`")
