"""Label sets: the frozen labels of a dataset, their files, manifest, statistics and provenance."""
