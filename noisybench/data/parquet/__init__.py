"""Parquet files of images: shards, columns and encoded images."""
