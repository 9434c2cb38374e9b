"""Segmentation masks: their files, values and colors, and the images that they belong to."""
