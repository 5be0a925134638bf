"""The best alternative's int8: a float `.tflite` through ai-edge-quantizer's static int8.

    PYTHON comparisons/quantize_peer.py float.tflite images.npy theirs.tflite

`images.npy` holds calibration images (n, H, W, 3) of what the file takes. Input and output stay
float, as in our files: a QUANTIZE first, a DEQUANTIZE last. Runs in an environment of
its own: `python3 -m venv peer; peer/bin/pip install ai-edge-quantizer`.
`comparisons/compare_quantizers.py --ai_edge_quantizer=peer/bin/python` calls it.
"""

import sys
from collections import Counter

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import qtyping, quantizer, recipe


def unique_names(source):
    """The file's content with a name of its own for each tensor: the quantiser refuses others.

    TensorFlow's converter gives a bias that it folded the name of the convolution's output.
    """
    with open(source, "rb") as file:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.read()))
    for graph in model.subgraphs:
        seen = Counter()
        for tensor in graph.tensors:
            seen[tensor.name] += 1
            if seen[tensor.name] > 1:
                tensor.name += f"_{seen[tensor.name]}".encode()
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return builder.Output()


def main(source, images, path):
    content = unique_names(source)
    signatures = Interpreter(model_content=bytes(content)).get_signature_list()
    ((signature, ends),) = signatures.items()
    (name,) = ends["inputs"]
    batches = [{name: image[None]} for image in np.load(images)]
    static = quantizer.Quantizer(content, recipe.static_wi8_ai8())
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):  # stay float
        static.update_quantization_recipe(".*", end, algorithm_key="no_quantize")
    ranges = static.calibrate({signature: batches})
    static.quantize(ranges).export_model(path)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: quantize_peer.py FLOAT_TFLITE IMAGES_NPY PATH")
    main(*sys.argv[1:])
