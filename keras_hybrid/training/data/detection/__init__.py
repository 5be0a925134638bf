"""Pictures with boxes: folders of COCO JSON, Pascal VOC XML or YOLO text files, and TFDS sets."""
