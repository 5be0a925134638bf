"""Instance segmentation: Mask R-CNN, its regions, its training and the masks of images."""
