"""Parameters and who calls whom: encoder, heads, norms, potential; TorchMD-NET weights."""
