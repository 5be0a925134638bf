"""Dense prediction on backbones: necks, segmentation."""
