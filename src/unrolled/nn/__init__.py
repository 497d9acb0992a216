"""Networks: stacks of recurrent layers with PyTorch's semantics, and what stands around them."""
