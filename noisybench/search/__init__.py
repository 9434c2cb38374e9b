"""Searches with Optuna: what is asked (`question`), the studies (`study`), and who trains their trials (`driver`)."""
