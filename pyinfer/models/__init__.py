"""Architectures of models: what a file's hyper-parameters are, and which operations a forward pass is made of.

An architecture is a file (llama.py is the one to read first) with three functions, shared with its family: `read` makes
a Config of the file's keys, `memory` says what each layer keeps of a sequence, and `record` calls the operations in the
order data flows. They are made of parts/, values with a function each. registry.py says which file has which name.
"""
