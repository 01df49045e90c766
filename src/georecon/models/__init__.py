"""Parameters and who calls whom: encoder, heads, norms, potential; weights to and from TorchMD-NET."""
