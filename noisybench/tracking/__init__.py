"""Read and write runs in MLflow."""
