"""One reader per official layout: a raw file to molecules."""
