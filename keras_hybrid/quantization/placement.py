"""Which steps of a model are computed in int8, and which in float."""

import keras

from keras_hybrid.quantization.rules import FUSES_INTO, SAME, fusable, rule_of
from keras_hybrid.surgery.editable_model import EditableModel


class Placement:
    """The choice for each step: the table's, and what follows from its neighbours.

    Args:
        model: being rewritten.
        profile: of `quantize`.
        floats: steps that the user keeps in float.
        rules: the user's own, by layer class.

    Attributes:
        rules: the rule of each step that has one; the inputs' and the `floats` have none.
        int8: whether a step is computed in int8; of an input, whether the file may take integers.
        settings: more of the twin's configuration, by step.
        producers: the step that computes a value.
    """

    def __init__(self, model: EditableModel, profile: str, floats: set, rules: dict):
        self.model = model
        self.rules, self.int8, self.settings = {}, {}, {}
        for step in model.steps:
            if step.is_a(keras.layers.InputLayer):
                self.int8[step] = profile == "int8"
            elif step in floats:
                self.int8[step] = False
            else:
                self.rules[step] = rule = rule_of(step, rules)
                choice = True if profile == "int8" else rule.on_cpu(step)
                self.settings[step] = choice if isinstance(choice, dict) else {}
                self.int8[step] = bool(choice)
        self.producers = {value: step for step in model.steps for value in step.outputs}
        self._follow_kernels()
        if profile == "int8_cpu":
            self._leave_clipping()
        self._place_moves(floats)
        if profile == "int8_cpu":
            self._follow_readers()
            self._leave_islands()
            self._place_moves(floats)

    def moves(self, step) -> bool:
        """Whether a step only moves values about."""
        rule = self.rules.get(step)
        return rule is not None and rule.output == SAME and bool(step.inputs)

    def _place_moves(self, floats):
        """Values are moved about in the type that they were computed in, or are needed in."""
        for step in self.rules:
            if self.moves(step):
                self.int8[step] = all(self.int8[self.producers[x]] for x in step.inputs)
        for step in reversed(self.rules):
            if self.moves(step) and step not in floats and not self.int8[step]:
                after = [x for value in step.outputs for x in self.model.consumers(value)]
                if not any(self.model.is_output(value) for value in step.outputs):
                    self.int8[step] = all(self.int8[x] for x in after)

    def fused(self, step) -> bool:
        """Whether a step is an activation that the kernel before it computes on the way out."""
        if not step.inputs or not fusable(step):
            return False
        value = step.inputs[0]
        kernel = self.producers[value]
        return (
            kernel.layer_class in FUSES_INTO
            and kernel.setting("activation") in (None, "linear")
            and self.model.only_consumer(value) is step
        )

    def _leave_clipping(self):
        """Alone, a clipping is an operator that XNNPACK has in float only."""
        for step in self.rules:
            if fusable(step) and not self.moves(step) and not self.fused(step):
                self.int8[step] = False

    def _follow_kernels(self):
        """An activation that a kernel computes on the way out is float where the kernel is."""
        for step in self.rules:
            if step.inputs and fusable(step):
                kernel = self.producers[step.inputs[0]]
                if kernel.layer_class in FUSES_INTO and not self.int8[kernel]:
                    self.int8[step] = False

    def _follow_readers(self):
        """Leaves sums in float that layers in float read."""
        for step in reversed(self.rules):
            if self.rules[step].as_readers:
                after = [x for value in step.outputs for x in self._readers(value)]
                self.int8[step] = self.int8[step] and all(self.int8[x] for x in after)

    def _leave_islands(self):
        """Leaves in float what lies between layers in float, unless it is worth conversions."""
        islands = [
            step
            for step, rule in self.rules.items()
            if self.int8[step] and not rule.island and not self.moves(step)
        ]
        while islands:
            group, pending, worth = [], [islands[0]], False
            while pending:
                step = pending.pop()
                if step in islands:
                    islands.remove(step)
                    group.append(step)
                    pending += [self._origin(value) for value in step.inputs]
                    pending += [x for value in step.outputs for x in self._readers(value)]
                elif step not in group:
                    worth = worth or self.int8[step]
            if not worth:
                self.int8.update(dict.fromkeys(group, False))

    def _origin(self, value):
        """The step that computes a value that is only moved about since."""
        step = self.producers[value]
        return self._origin(step.inputs[0]) if self.moves(step) else step

    def _readers(self, value):
        """The steps that compute with a value that is only moved about before."""
        found = []
        for step in self.model.consumers(value):
            if self.moves(step):
                found += [x for output in step.outputs for x in self._readers(output)]
            else:
                found.append(step)
        return found
