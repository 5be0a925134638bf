"""What files of int8 weights and int16 activations need of their kernels."""
