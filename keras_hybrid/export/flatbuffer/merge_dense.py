"""Dense layers as one operator: what conversion of quantised ones leaves as three."""

import copy

import numpy as np

from keras_hybrid.export.flatbuffer.file import TFLiteFile

# TFLite's version of the operator that takes a scale for each unit.
PER_UNIT = 12


def merge_dense(file: TFLiteFile):
    """Makes 1 x 1 convolutions between two RESHAPEs FULLY_CONNECTED.

    Trained ranges for each unit reach the file on kernels of convolutions only, so that a
    quantised dense layer on tokens is converted as RESHAPE, CONV_2D and RESHAPE.
    """
    from ai_edge_litert import schema_py_generated as schema

    for graph in file.model.subgraphs:
        _Merging(file, graph, schema).run()


class _Merging:
    """One graph's operators."""

    def __init__(self, file, graph, schema):
        self.file, self.graph, self.schema = file, graph, schema
        self.producer = {int(x): op for op in graph.operators for x in op.outputs}
        self.readers = {}
        for operator in graph.operators:
            for index in operator.inputs:
                self.readers.setdefault(int(index), []).append(operator)

    def run(self):
        kinds = self.schema.BuiltinOperator
        gone = set()
        for operator in self.graph.operators:
            if self._is(operator, kinds.CONV_2D) and self._is_dense(operator):
                gone.update(map(id, self._merge(operator)))
        self.graph.operators = [x for x in self.graph.operators if id(x) not in gone]

    def _is(self, operator, kind):
        return operator is not None and self.file.kind(operator) == kind

    def _shape(self, index):
        shape = self.graph.tensors[int(index)].shape  # of a number None
        return () if shape is None else tuple(map(int, shape))

    def _is_dense(self, operator):
        """Whether the convolution is of single pixels, int8, and between reshapes of pixels."""
        image, kernel, *_ = operator.inputs
        options = operator.builtinOptions
        before = self.producer.get(int(image))
        readers = self.readers.get(int(operator.outputs[0]), [])
        reshape = self.schema.BuiltinOperator.RESHAPE
        return (
            self._shape(kernel)[1:3] == (1, 1)
            and self.graph.tensors[int(kernel)].type == self.schema.TensorType.INT8
            and options.strideH == options.strideW == 1
            and self._is(before, reshape)
            and len(readers) == 1
            and self._is(readers[0], reshape)
            and int(operator.outputs[0]) not in map(int, self.graph.outputs)
            and self._shape(before.inputs[0])[-1] == self._shape(image)[-1]
            and self._shape(readers[0].outputs[0])
            == (*self._shape(before.inputs[0])[:-1], self._shape(kernel)[0])
        )

    def _merge(self, operator):
        """Makes the operator one of both reshapes' tensors; returns the operators to remove."""
        schema = self.schema
        before = self.producer[int(operator.inputs[0])]
        after = self.readers[int(operator.outputs[0])][0]
        index = int(operator.inputs[1])
        kernel = self.graph.tensors[index]
        units, *_, channels = self._shape(index)
        if len(self.readers[index]) > 1:  # of a layer called twice, or an equal one
            self.readers[index].remove(operator)
            kernel, index = copy.copy(kernel), len(self.graph.tensors)
            self.graph.tensors.append(kernel)
        kernel.shape = np.array([units, channels], "int32")
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        options.fusedActivationFunction = operator.builtinOptions.fusedActivationFunction
        operator.builtinOptions = options
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.opcodeIndex = self.file.code_index(
            schema.BuiltinOperator.FULLY_CONNECTED, PER_UNIT
        )
        operator.inputs = np.array([before.inputs[0], index, *operator.inputs[2:]], "int32")
        operator.outputs = np.array([after.outputs[0]], "int32")
        readers = self.readers[int(before.outputs[0])]
        readers.remove(operator)
        return [after] if readers else [before, after]
