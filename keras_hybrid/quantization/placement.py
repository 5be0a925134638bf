"""Which steps of a model are computed in int8, and which in float."""

import keras

from keras_hybrid.quantization.cpu_profile import CpuChoice
from keras_hybrid.quantization.rules import (
    FixedRange,
    OutputRange,
    Rule,
    check_rules,
    find_rule,
    fusable,
)
from keras_hybrid.surgery.editable_model import EditableModel, Step, Value
from keras_hybrid.surgery.layer_traits import FUSES_INTO


class Placement:
    """The choice for each step: the table's, and what follows from its neighbours.

    Args:
        model: being rewritten.
        profile: of `quantize`.
        floats: steps that the user keeps in float.
        rules: the user's own, by layer class.
        target: the engine that the file is for.

    Attributes:
        profile: of `quantize`.
        target: likewise.
        rules: the rule of each step that has one; the inputs' and the `floats` have none.
        int8: whether a step is computed in int8; of an input, whether the file may take integers.
        settings: more of the twin's configuration, by step.
        producers: the step that computes a value.
    """

    def __init__(
        self, model: EditableModel, profile: str, floats: set, rules: dict, target: str = "cpu"
    ):
        self.model, self.profile, self.target = model, profile, target
        self.rules, self.int8, self.settings = {}, {}, {}
        check_rules(model, rules, floats)
        for step in model.steps:
            if step.is_a(keras.layers.InputLayer):
                self.int8[step] = profile == "int8"
            elif step in floats:
                self.int8[step] = False
            else:
                self.rules[step] = rule = find_rule(step, rules)
                choice = CpuChoice(True) if profile == "int8" else rule.on_cpu(step)
                self.settings[step] = choice.twin_settings
                self.int8[step] = choice.int8
        self.producers = {value: step for step in model.steps for value in step.outputs}
        self._follow_kernels()
        if profile == "int8_cpu":
            self._leave_clipping()
        self._place_rearrangements(floats)
        if profile == "int8_cpu":
            self._follow_readers()
            self._widen_float_regions()
            self._place_rearrangements(floats)

    def int8_rules(self) -> list[tuple[Step, Rule]]:
        """The steps that are computed in int8, each with its rule."""
        return [(step, rule) for step, rule in self.rules.items() if self.int8[step]]

    def centered_inputs(self, step: Step) -> tuple[int, ...]:
        """Numbers of a step's inputs that are to be quantised around 0."""
        rule = self.rules[step]
        if self.target != "npu" or rule.npu_symmetric is None:
            return rule.symmetric
        return (*rule.npu_symmetric(step), *rule.symmetric)

    def output_range(self, step: Step) -> OutputRange | FixedRange | None:
        """Where the range of a step's output comes from; None for a step without rule."""
        rule = self.rules.get(step)
        return None if rule is None else rule.output

    def rearranges(self, step: Step) -> bool:
        """Whether a step only rearranges values."""
        return self.output_range(step) is OutputRange.AS_INPUT and bool(step.inputs)

    def add_in_int8(self, step: Step):
        """Takes up a step of one output that has come into the model, computed in int8."""
        self.rules[step], self.int8[step], self.settings[step] = Rule(), True, {}
        self.producers[step.output] = step

    def remove(self, step: Step):
        """Forgets a step of one output that leaves the model."""
        del self.rules[step], self.int8[step], self.settings[step], self.producers[step.output]

    def origins(self) -> dict[Value, Value]:
        """By value, the one that it was computed as, before it was rearranged in int8."""
        origins = {}
        for step in self.model.steps:
            for value in step.outputs:
                same = self.rearranges(step) and self.int8[step]
                origins[value] = origins[step.inputs[0]] if same else value
        return origins

    def _place_rearrangements(self, floats):
        """Values are rearranged in the type that they were computed in, or are needed in."""
        for step in self.rules:
            if self.rearranges(step):
                self.int8[step] = all(self.int8[self.producers[x]] for x in step.inputs)
        for step in reversed(self.rules):
            if self.rearranges(step) and step not in floats and not self.int8[step]:
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
            if fusable(step) and not self.rearranges(step) and not self.fused(step):
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

    def _widen_float_regions(self):
        """Leaves in float what lies between layers in float, unless it is worth conversions."""
        between = [
            step
            for step, rule in self.rules.items()
            if self.int8[step] and not rule.worth_converting and not self.rearranges(step)
        ]
        while between:
            group, pending, worth = [], [between[0]], False
            while pending:
                step = pending.pop()
                if step in between:
                    between.remove(step)
                    group.append(step)
                    pending += [self._origin(value) for value in step.inputs]
                    pending += [x for value in step.outputs for x in self._readers(value)]
                elif step not in group:
                    worth = worth or self.int8[step]
            if not worth:
                self.int8.update(dict.fromkeys(group, False))

    def _origin(self, value):
        """The step that computes a value that is only rearranged since."""
        step = self.producers[value]
        return self._origin(step.inputs[0]) if self.rearranges(step) else step

    def _readers(self, value):
        """The steps that compute with a value that is only rearranged before."""
        found = []
        for step in self.model.consumers(value):
            if self.rearranges(step):
                found += [x for output in step.outputs for x in self._readers(output)]
            else:
                found.append(step)
        return found
