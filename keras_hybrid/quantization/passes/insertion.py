"""New steps beside old ones."""

from keras_hybrid.surgery.editable_model import EditableModel, Step


def insert_after(model: EditableModel, step: Step, new: Step):
    """Puts a new step after one that it takes its input from; the others take its output."""
    (value,) = new.inputs
    model.redirect(value, new.output)
    new.take(value)
    model.steps.insert(model.steps.index(step) + 1, new)
