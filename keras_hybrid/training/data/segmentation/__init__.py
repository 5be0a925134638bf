"""Images with a class for each pixel: of TFDS, of folders, and what a network is fed of them."""
