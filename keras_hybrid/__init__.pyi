"""The public names and the module of each: what editors read, and `__init__.py` resolves."""

from keras_hybrid.analysis.attention import attention_maps as attention_maps
from keras_hybrid.analysis.attention_picture import plot_attention as plot_attention
from keras_hybrid.analysis.cost import count_multiply_adds as count_multiply_adds
from keras_hybrid.analysis.detection_picture import plot_detections as plot_detections
from keras_hybrid.analysis.heads import head_similarity as head_similarity
from keras_hybrid.analysis.heads import plot_head_similarity as plot_head_similarity
from keras_hybrid.analysis.segmentation_picture import plot_segmentation as plot_segmentation
from keras_hybrid.analysis.summary import summarize_cost as summarize_cost
from keras_hybrid.engines.check import check_engines as check_engines
from keras_hybrid.export.convert import export_tflite as export_tflite
from keras_hybrid.export.instances import export_instances as export_instances
from keras_hybrid.export.verify import verify_tflite as verify_tflite
from keras_hybrid.models.catalogue import build_model as build_model
from keras_hybrid.models.catalogue import list_models as list_models
from keras_hybrid.models.features import feature_pyramid as feature_pyramid
from keras_hybrid.models.iformer import IFormerH as IFormerH
from keras_hybrid.models.iformer import IFormerL as IFormerL
from keras_hybrid.models.iformer import IFormerL2 as IFormerL2
from keras_hybrid.models.iformer import IFormerM as IFormerM
from keras_hybrid.models.iformer import IFormerS as IFormerS
from keras_hybrid.models.iformer import IFormerT as IFormerT
from keras_hybrid.models.iformer import training_heads as training_heads
from keras_hybrid.models.mobile_former import MobileFormer26M as MobileFormer26M
from keras_hybrid.models.mobile_former import MobileFormer52M as MobileFormer52M
from keras_hybrid.models.mobile_former import MobileFormer96M as MobileFormer96M
from keras_hybrid.models.mobile_former import MobileFormer151M as MobileFormer151M
from keras_hybrid.models.mobile_former import MobileFormer214M as MobileFormer214M
from keras_hybrid.models.mobile_former import MobileFormer294M as MobileFormer294M
from keras_hybrid.models.mobile_former import MobileFormer508M as MobileFormer508M
from keras_hybrid.models.mobilevit import MobileViTS as MobileViTS
from keras_hybrid.models.mobilevit import MobileViTXS as MobileViTXS
from keras_hybrid.models.mobilevit import MobileViTXXS as MobileViTXXS
from keras_hybrid.quantization.quantize import quantize as quantize
from keras_hybrid.quantization.ranges.calibration import calibrate as calibrate
from keras_hybrid.quantization.report import layer_errors as layer_errors
from keras_hybrid.quantization.rules import Rule as Rule
from keras_hybrid.surgery.fuse import fuse as fuse
from keras_hybrid.tasks.detection.average_precision import average_precision as average_precision
from keras_hybrid.tasks.detection.detection_training import DetectionTraining as DetectionTraining
from keras_hybrid.tasks.detection.objects import Objects as Objects
from keras_hybrid.tasks.detection.post_processing import Detections as Detections
from keras_hybrid.tasks.detection.retinanet import (
    RetinaNetMobileFormer151M as RetinaNetMobileFormer151M,
)
from keras_hybrid.tasks.detection.retinanet import (
    RetinaNetMobileFormer214M as RetinaNetMobileFormer214M,
)
from keras_hybrid.tasks.detection.retinanet import (
    RetinaNetMobileFormer294M as RetinaNetMobileFormer294M,
)
from keras_hybrid.tasks.detection.retinanet import (
    RetinaNetMobileFormer508M as RetinaNetMobileFormer508M,
)
from keras_hybrid.tasks.detection.retinanet import retinanet as retinanet
from keras_hybrid.tasks.detection.ssdlite import SSDLiteMobileViTS as SSDLiteMobileViTS
from keras_hybrid.tasks.detection.ssdlite import SSDLiteMobileViTXS as SSDLiteMobileViTXS
from keras_hybrid.tasks.detection.ssdlite import SSDLiteMobileViTXXS as SSDLiteMobileViTXXS
from keras_hybrid.tasks.detection.ssdlite import ssdlite as ssdlite
from keras_hybrid.tasks.instances.detect import detect as detect
from keras_hybrid.tasks.instances.instance_training import InstanceTraining as InstanceTraining
from keras_hybrid.tasks.instances.mask_rcnn import MaskRCNNIFormerL as MaskRCNNIFormerL
from keras_hybrid.tasks.instances.mask_rcnn import MaskRCNNIFormerL2 as MaskRCNNIFormerL2
from keras_hybrid.tasks.instances.mask_rcnn import MaskRCNNIFormerM as MaskRCNNIFormerM
from keras_hybrid.tasks.instances.mask_rcnn import mask_rcnn as mask_rcnn
from keras_hybrid.tasks.segmentation.deeplabv3 import DeepLabV3MobileViTS as DeepLabV3MobileViTS
from keras_hybrid.tasks.segmentation.deeplabv3 import DeepLabV3MobileViTXS as DeepLabV3MobileViTXS
from keras_hybrid.tasks.segmentation.deeplabv3 import DeepLabV3MobileViTXXS as DeepLabV3MobileViTXXS
from keras_hybrid.tasks.segmentation.deeplabv3 import deeplabv3 as deeplabv3
from keras_hybrid.tasks.segmentation.loss import LabelledMeanIoU as LabelledMeanIoU
from keras_hybrid.tasks.segmentation.loss import SegmentationLoss as SegmentationLoss
from keras_hybrid.tasks.segmentation.segment import segment as segment
from keras_hybrid.tasks.segmentation.semantic_fpn import SemanticFPNIFormerL as SemanticFPNIFormerL
from keras_hybrid.tasks.segmentation.semantic_fpn import (
    SemanticFPNIFormerL2 as SemanticFPNIFormerL2,
)
from keras_hybrid.tasks.segmentation.semantic_fpn import SemanticFPNIFormerM as SemanticFPNIFormerM
from keras_hybrid.tasks.segmentation.semantic_fpn import semantic_fpn as semantic_fpn
from keras_hybrid.training.recipe.recipe import Recipe as Recipe
from keras_hybrid.training.recipe.recipe import load_recipe as load_recipe
from keras_hybrid.training.recipe.segmentation import SegmentationRecipe as SegmentationRecipe
from keras_hybrid.training.run.run import train as train
from keras_hybrid.weights.checkpoints.load import load_checkpoint as load_checkpoint
from keras_hybrid.weights.evaluation import evaluation_image as evaluation_image
from keras_hybrid.weights.labels import decode_predictions as decode_predictions
from keras_hybrid.weights.preprocessing import preprocess_input as preprocess_input
from keras_hybrid.weights.presets import list_weights as list_weights

__version__: str
