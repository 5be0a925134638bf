"""Object detection: heads, anchors, matching, losses, boxes of images, their pictures and AP."""
