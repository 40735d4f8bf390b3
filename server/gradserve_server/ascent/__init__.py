"""Gradient ascent on an input: settings checked (`spec`), then a plain loop over kernels and one gradient function."""
