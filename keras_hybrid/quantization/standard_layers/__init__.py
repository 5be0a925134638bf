"""Layers and operations of stock Keras in terms of those that int8 has operators for."""
