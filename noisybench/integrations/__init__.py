"""Methods of noisybench inside the code that people have: PyTorch loops, Lightning, Hugging Face, scikit-learn."""
