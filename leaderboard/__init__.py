"""Tables, statistics and pages: pure functions of what runs recorded."""

# The same file under a second module name would be a second class: registries and pickles would break.
if __name__ != "noisybench.leaderboard":
    raise ImportError("import this package as `noisybench.leaderboard`")
