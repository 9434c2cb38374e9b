"""Label audits: estimate the noise of a label set and rank its suspicious labels without clean labels."""
