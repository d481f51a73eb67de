"""Architectures of models: how a file's hyper-parameters are read, and which operations a forward pass has.

An architecture is a file (read llama.py first) with three functions, which a family shares: `read` makes a Config of
the file's keys, `memory` says what each layer keeps of a sequence, and `record` calls the operations in the order in
which data flows. They are built from parts/: values, and a function for each. registry.py maps names to files.
"""
