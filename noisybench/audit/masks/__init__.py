"""Audit of segmentation masks: scores of images, classes and pixels."""
