"""What was trained, in programs of one's own: load an encoder or a model, give it molecules."""
