"""What a model keeps of a sequence: pages of keys and values, and who shares them."""
