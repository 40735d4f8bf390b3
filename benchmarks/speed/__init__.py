"""The gradient of a logit with respect to the input: gradserve, and what people use otherwise, on the same cores.

PYTHONPATH=benchmarks python -m speed [NAME ...] [--batches 1 8] [--rounds 7] [--no-compile] [--json FILE]
"""
