"""The numerics in NumPy, in any dtype: what every backend is compared with."""
