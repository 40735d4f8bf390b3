"""Backward graphs: which nodes have a gradient (`path`, `training_ops`), and who builds it (`ort_training`)."""
