"""Features of datasets from pre-trained backbones."""
