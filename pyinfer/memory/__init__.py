"""What a model keeps of its sequences: pages of keys and values, and states, which sequences share."""
