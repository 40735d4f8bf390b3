"""Gradients and ascents on a GPU: gradserve by onnxruntime's CUDA provider, and PyTorch, eager, compiled and captured.

PYTHONPATH=benchmarks python -m device [NAME ...] [--device cuda] [--batches 1 8 64] [--budget-seconds 420] [--json FILE]
"""
