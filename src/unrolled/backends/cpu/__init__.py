"""The native engine: compiled kernels, and an interpreter for whatever cell has none."""
