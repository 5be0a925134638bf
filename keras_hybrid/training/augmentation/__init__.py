"""Random changes of training images, each a function of images and draws."""
