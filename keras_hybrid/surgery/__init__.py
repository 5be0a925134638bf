"""A functional model as steps that passes edit, and back to a model. No pass knows a family."""
