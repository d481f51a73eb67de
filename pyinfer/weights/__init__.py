"""A model's weights as matrices and vectors for the kernels."""
