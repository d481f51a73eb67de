"""Other programs' interfaces, so that they run on pyinfer."""
