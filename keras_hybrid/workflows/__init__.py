"""What needs training, quantisation and export together."""
