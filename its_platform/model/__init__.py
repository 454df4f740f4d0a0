"""A dataset version becomes a trained detector: training, export, parity, evaluation, the frame embedder.

Enters: a dataset version and weights to start from. Leaves: a registered model version with its ONNX file, its
evaluation by slice and all that is needed to trace it. Whether the version may be served is decided in `release`.
"""
