"""The same network on four rungs: `plain` Python lists, NumPy `layers`, a `solver`, and the library itself."""
