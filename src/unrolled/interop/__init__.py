"""Networks for other programs, and from them."""
