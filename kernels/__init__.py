"""The models: equations on arrays, one file per economy, with CUDA twins of the same names beside them."""
