"""Multi-layer perceptron."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxdl import parallel
from jaxdl.layers import fake_relu
from jaxdl.models.convolution import head


class MLP(nn.Module):
  """x float [B, ...], flattened -> (logits float32 [B, num_classes], features).

  `features` holds 'hidden{i}' after each ReLU (before dropout) and 'pooled', float32 [B, D], what
  the last linear layer reads. Hidden layers are He-normal over the fan-in, with zero biases.

  Attributes:
    num_classes: K.
    hidden: width of each hidden layer; none makes a linear classifier.
    dropout: rate after each hidden layer; needs a 'dropout' key in training when above 0.
    input_dropout: rate on the input.
    fake_relu: the last ReLU passes every gradient, for matching 'pooled' (see `fake_relu`).
    dense: makes each hidden layer but the first: (features, *, dtype, kernel_init, name) -> module.
    dtype: compute dtype; parameters, 'pooled' and logits are float32.
    norm_axis: unused, there is no BN; taken so that every network has the same fields.
  """

  num_classes: int
  hidden: Sequence[int] = (300, 100)
  dropout: float = 0.0
  input_dropout: float = 0.0
  fake_relu: bool = False
  dense: Callable[..., nn.Module] = nn.Dense
  dtype: Any = jnp.float32
  norm_axis: str | None = parallel.AXIS

  @nn.compact
  def __call__(self, x, train: bool = False):
    features = {}
    x = x.reshape(x.shape[0], -1)
    x = nn.Dropout(self.input_dropout, deterministic=not train)(x)
    for i, width in enumerate(self.hidden, 1):
      init, layer = nn.initializers.he_normal(), nn.Dense if i == 1 else self.dense
      x = layer(width, dtype=self.dtype, kernel_init=init, name=f'hidden{i}')(x)
      x = fake_relu(x) if self.fake_relu and i == len(self.hidden) else nn.relu(x)
      features[f'hidden{i}'] = x
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    features['pooled'] = x.astype(jnp.float32)
    return head(self.num_classes)(features['pooled']), features
