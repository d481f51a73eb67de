"""Model architectures: what a file's hyper-parameters are, and which operations a forward pass is made of."""
