"""AdamW with a learning rate for each variable, and a moving average by update."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_hybrid")
class ScaledAdamW(keras.optimizers.AdamW):
    """Keras' AdamW with five additions that recipes need.

    - Epsilon is added to the root of the bias-corrected second moment, as the paper and PyTorch
      have it, and is 1e-8. Keras adds its 1e-7 before the correction: after 20 steps with gradients
      of 1e-6, which a twentieth of the parameters see, weights have moved half as far.
    - On TensorFlow a variable's update is one operator, and what all have in common is computed
      once: Keras' update of Mobile-Former-26M is half of the step's graph and of its tracing.
    - `multipliers` scale the learning rate variable by variable, and with it the weight decay:
      what layer-wise decay is made of.
    - Where gradients accumulate, the moving average takes one step with each update of the
      weights. Keras' takes one with every batch. With `ema_warmup`, its momentum grows from small
      values, so that a short run's average has left the first weights behind.
    - On mirrored devices, gradients are clipped by the norm of their sum.

    Reference: Decoupled Weight Decay Regularization (https://arxiv.org/abs/1711.05101),
    Algorithm 2.

    Args:
        learning_rate: a number or a schedule.
        multipliers: from a variable's path, such as "stem_conv/kernel", to what its learning rate
            is multiplied by; 1 for those not named.
        **options: as for `keras.optimizers.AdamW`.
    """

    def __init__(
        self,
        learning_rate=0.001,
        multipliers: dict[str, float] | None = None,
        ema_warmup: bool = False,
        epsilon: float = 1e-8,
        **options,
    ):
        super().__init__(learning_rate, epsilon=epsilon, **options)
        self.multipliers = dict(multipliers or {})
        self.ema_warmup = ema_warmup
        self._rate_of_step = None

    def _by_multiplier(self, variables):
        """Positions in `variables`, by their multiplier."""
        groups = {}
        for position, variable in enumerate(variables):
            multiplier = self.multipliers.get(getattr(variable, "path", None), 1.0)
            groups.setdefault(multiplier, []).append(position)
        return groups

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        in_one = keras.backend.backend() == "tensorflow" and not self.amsgrad
        for multiplier, positions in self._by_multiplier(trainable_variables).items():
            rate = learning_rate * multiplier if multiplier != 1 else learning_rate
            super()._backend_update_step(
                [grads[position] for position in positions],
                [trainable_variables[position] for position in positions],
                self._step_of_all(rate) if in_one else rate,
            )

    def _step_of_all(self, learning_rate):
        """What the operator that updates a variable takes besides the variable's own."""
        updates = ops.cast(self.iterations + 1, "float32")
        first, second = (ops.power(x, updates) for x in (self.beta_1, self.beta_2))
        return {
            "lr": ops.cast(learning_rate, "float32"),
            "beta1_power": first,
            "beta2_power": second,
            "beta1": ops.cast(self.beta_1, "float32"),
            "beta2": ops.cast(self.beta_2, "float32"),
            "epsilon": self._uncorrected_epsilon(second),
        }

    def _uncorrected_epsilon(self, second):
        """Epsilon for a root that is not corrected: the learning rate holds the correction."""
        return ops.cast(self.epsilon, "float32") * ops.sqrt(1 - second)

    def update_step(self, gradient, variable, learning_rate):
        if isinstance(learning_rate, dict):
            self._update_in_one(gradient, variable, learning_rate)
            return
        epsilon = self.epsilon
        updates = ops.cast(self.iterations + 1, "float32")
        try:
            self.epsilon = ops.cast(
                self._uncorrected_epsilon(ops.power(self.beta_2, updates)), variable.dtype
            )
            super().update_step(gradient, variable, learning_rate)
        finally:
            self.epsilon = epsilon

    def _update_in_one(self, gradient, variable, step):
        import tensorflow as tf

        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            grad=tf.cast(gradient, variable.dtype),
            **{name: tf.cast(value, variable.dtype) for name, value in step.items()},
        )

    def _get_current_learning_rate(self):
        """Of the step; where all variables' decay asks for it, computed once."""
        rate = self._rate_of_step
        return super()._get_current_learning_rate() if rate is None else rate

    def _apply_weight_decay(self, variables):
        weight_decay = self.weight_decay
        if weight_decay is None:
            return
        try:
            self._rate_of_step = ops.convert_to_tensor(self._get_current_learning_rate())
            for multiplier, positions in self._by_multiplier(variables).items():
                self.weight_decay = weight_decay * multiplier  # times the learning rate
                super()._apply_weight_decay([variables[position] for position in positions])
        finally:
            self.weight_decay = weight_decay
            self._rate_of_step = None

    def _clip_gradients(self, grads):
        """On mirrored devices, the norm is that of the sum of their gradients.

        Differs from Keras, which clips what each device has before it sums.
        """
        if not self.global_clipnorm or keras.backend.backend() != "tensorflow":
            return super()._clip_gradients(grads)
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return super()._clip_gradients(grads)
        norm = tf.linalg.global_norm(context.all_reduce(tf.distribute.ReduceOp.SUM, grads))
        factor = self.global_clipnorm / tf.maximum(norm, self.global_clipnorm)
        return [gradient * tf.cast(factor, gradient.dtype) for gradient in grads]

    def _update_model_variables_moving_average(self, trainable_variables):
        """The average starts at the weights after the first update."""
        steps = self.gradient_accumulation_steps or 1
        is_update = ops.equal((self._iterations + 1) % steps, 0)
        momentum = self.ema_momentum
        if self.ema_warmup:
            updates = ops.cast(ops.floor_divide(self._iterations, steps), "float32")
            momentum = ops.minimum(momentum, warmup_momentum(updates))
        momentum = ops.where(is_update, momentum, 1.0)
        momentum = ops.where(self._iterations < steps, 0.0, momentum)
        for variable, average in zip(
            trainable_variables, self._model_variables_moving_average, strict=True
        ):
            share = ops.cast(momentum, variable.dtype)
            average.assign(share * average + (1 - share) * variable)

    def finalize_variable_values(self, var_list):
        """Leaves the weights as they are.

        Differs from Keras, whose `fit` puts the averages in their place at its end: a run that goes
        on inside an epoch calls `fit` twice, and `MovingAverage.finalize` ends it.
        """

    def get_config(self):
        own = {"multipliers": self.multipliers, "ema_warmup": self.ema_warmup}
        return {**super().get_config(), **own}


def warmup_momentum(updates):
    """The most that the momentum of a moving average may be after so many updates.

    (1 + t) / (10 + t), as `tf.train.ExponentialMovingAverage` has it with `num_updates`: the
    average then spans about the last ninth of the run.
    """
    return (1.0 + updates) / (10.0 + updates)
