"""Models that run: the repository, sessions of onnxruntime, plans."""
