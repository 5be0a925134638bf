"""Which task a recipe is of: the one table of tasks."""

from keras_hybrid.training.recipe.common import CommonRecipe
from keras_hybrid.training.tasks.classification import Classification
from keras_hybrid.training.tasks.detection import Detection
from keras_hybrid.training.tasks.instances import Instances
from keras_hybrid.training.tasks.segmentation import Segmentation
from keras_hybrid.training.tasks.task import Task

TASKS = {task.name: task for task in (Classification(), Segmentation(), Detection(), Instances())}


def task_of(recipe: CommonRecipe) -> Task:
    """The task of a recipe, by its class.

    Raises:
        ValueError: for a recipe of no task.
    """
    for task in TASKS.values():
        if isinstance(recipe, task.recipe_class):
            return task
    raise ValueError(
        f"A recipe of one of the tasks {tuple(TASKS)} is expected. "
        f"Received: a {type(recipe).__name__}"
    )


def task_named(name: str) -> Task:
    """The task of a name.

    Raises:
        ValueError: for an unknown one.
    """
    if name not in TASKS:
        raise ValueError(f"`task` must be one of {tuple(TASKS)}. Received: task={name!r}")
    return TASKS[name]
