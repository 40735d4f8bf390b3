"""ONNX in, ONNX out: loading, inference form, subgraphs, objectives, gradients. Runs no model."""
