"""The state of a run and the function types everything else is made of.

A study composes four slots, each an ordinary function::

  batch -> transform (input space) -> objective (loss) -> optax chain (weight space) -> loop

Shapes: images are float NHWC in [0, 1] at every public boundary; labels are int [B]; per-example
losses are float [B]. A batch is a dict with `image`, `label`, `index` (the example's place in its
set) and `step` (put there by `grad_step`, so that anything scheduled inside an objective reads it).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

Array = jax.Array
PyTree = Any
Batch = Mapping[str, Array]
Metrics = Mapping[str, Array]


class TrainState(flax.struct.PyTreeNode):
  """Everything a run needs to continue bit for bit.

  Attributes:
    step: int32 scalar, the number of updates done.
    params: what the gradient moves (a model, a patch, `{'gen': ..., 'disc': ...}`).
    model_state: what the forward pass moves (batch statistics, a memory bank, a quantizer's basis).
    opt_state: the optax state.
    key: the typed root key. It is folded with `step`, never split in place.
  """

  step: Array
  params: PyTree
  model_state: PyTree
  opt_state: optax.OptState
  key: Array


class Output(NamedTuple):
  """What an objective returns beside its loss.

  Attributes:
    model_state: the new model state.
    metrics: name -> float array, either a scalar or per example [B]; the mean over the batch is
      logged.
  """

  model_state: PyTree
  metrics: Metrics


# (params, model_state, x, *, train, key) -> (outputs, model_state)
Apply = Callable[..., tuple[Any, PyTree]]
# (params, model_state, batch, key, frozen) -> (scalar loss, Output); differentiated in params
Objective = Callable[[PyTree, PyTree, Batch, Array, PyTree], tuple[Array, Output]]
# (params, model_state, batch, key, frozen) -> batch; no gradient flows through it. The key is the
# same on all devices: draw for each example (`example_keys`), or from `parallel.device_key(key)`.
BatchTransform = Callable[[PyTree, PyTree, Batch, Array, PyTree], Batch]
# (loss_of_x: x -> [B], x0, key) -> x
Attack = Callable[[Callable[[Array], Array], Array, Array], Array]
# (logits [B, K], labels [B], ...) -> [B]
Loss = Callable[..., Array]
# (state, batch, frozen=None) -> (state, metrics)
Step = Callable[..., tuple[TrainState, Metrics]]


class Model(NamedTuple):
  """A network as two pure functions.

  Attributes:
    init: (key, x [B, ...]) -> (params, model_state).
    apply: (params, model_state, x, *, train=False, key=None) -> (outputs, model_state). With
      `train=False` the returned model state is the one passed in.
  """

  init: Callable[[Array, Array], tuple[PyTree, PyTree]]
  apply: Apply


def bind(module: nn.Module, *, mean=0.0, std=1.0) -> Model:
  """Turns a Flax module into a `Model`. The only code that knows `mutable=` and `rngs=`.

  Normalisation lives here, so that every perturbation size outside is in pixel units.

  Args:
    module: called as `module(x, train=...)`, returns `(outputs, features)` or anything else.
    mean: per-channel mean subtracted from x, in [0, 1] units.
    std: per-channel standard deviation x is divided by.
  """
  mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
  normalised = lambda x: (x - mean) / std if jnp.issubdtype(x.dtype, jnp.floating) else x

  def init(key, x):
    variables = dict(module.init({'params': key, 'dropout': key}, normalised(x), train=False))
    params = variables.pop('params', {})
    return params, variables

  def apply(params, model_state, x, *, train=False, key=None):
    variables = {'params': params, **model_state}
    rngs = {} if key is None else {'dropout': key}
    if not train:
      return module.apply(variables, normalised(x), train=False, rngs=rngs), model_state
    outputs, new_state = module.apply(
      variables, normalised(x), train=True, rngs=rngs, mutable=list(model_state)
    )
    return outputs, {**model_state, **new_state}

  return Model(init, apply)


def example_keys(key: Array, batch: Batch) -> Array:
  """One key for each example [B], a function of `key` and the example's `index`.

  What a transform draws from them does not depend on how the batch is split over devices.

  Args:
    key: typed key, the same on all devices.
    batch: `index` int [B]; without it, the examples are counted from 0.
  """
  index = batch.get('index')
  if index is None:
    index = jnp.arange(len(batch['image']))
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def init_state(model_init, tx: optax.GradientTransformation, key: Array, x: Array) -> TrainState:
  """The state before the first update. Pure, so `jax.jit` and `jax.eval_shape` take it.

  Args:
    model_init: `Model.init`.
    tx: the optimizer.
    key: typed root key of the run.
    x: an example batch; only its shape and dtype matter.
  """
  params, model_state = model_init(jax.random.fold_in(key, 0x1217), x)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    model_state=model_state,
    opt_state=tx.init(params),
    key=key,
  )


def count_params(params: PyTree) -> int:
  """The number of scalars in a tree of arrays (or of shapes)."""
  return sum(int(x.size) for x in jax.tree.leaves(params))
