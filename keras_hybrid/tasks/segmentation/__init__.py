"""Semantic segmentation: heads, loss, label maps of images, their pictures and mIoU."""
