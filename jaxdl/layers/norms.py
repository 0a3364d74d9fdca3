"""Batch normalisation."""

import flax.linen as nn


class BatchNorm(nn.Module):
  """Placeholder with the final interface."""

  momentum: float = 0.9
  epsilon: float = 1e-5
  dtype: object = None
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, *, train: bool):
    return nn.BatchNorm(
      use_running_average=not train, momentum=self.momentum, epsilon=self.epsilon,
      dtype=self.dtype, axis_name=self.axis_name,
    )(x)
