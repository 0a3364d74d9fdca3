"""The optimizers of the CIFAR-10 speed runs, for a mean loss.

Jordan 2024 (arXiv 2404.00498), appendix A, and github.com/KellerJordan/cifar10-airbench (MIT
licence), whose losses are sums over the batch: rates here are multiplied by the batch size.
"""

import jax
import jax.numpy as jnp
import optax

from jaxdl.core import PyTree
from jaxdl.optim.fixed_norm import fixed_norm
from jaxdl.optim.leaves import is_kernel, leaf_name
from jaxdl.optim.lookahead import lookahead
from jaxdl.options import check_number


def triangle(
  total_steps: int, warmup: float = 0.23, start: float = 0.2, end: float = 0.07
) -> optax.Schedule:
  """From `start` up to 1 at the fraction `warmup` of the run, then down to `end` at its end."""
  rise = int(total_steps * warmup)
  fall = optax.linear_schedule(1.0, end, total_steps - rise)
  if not rise:
    return fall
  return optax.join_schedules([optax.linear_schedule(start, 1.0, rise), fall], [rise])


def sgd_rate(lr: float, momentum: float) -> float:
  """The rate that a sum of per-example gradients is multiplied by, for a decoupled `lr`.

  `lr` is per 1024 examples, and for a constant gradient it is the size of the whole step: Nesterov
  momentum makes it 1 + 1 / (1 - momentum) times as long, which is divided out.
  """
  return lr / (1024 * (1 + 1 / (1 - momentum)))


def airbench_sgd(
  total_steps: int,
  batch_size: int = 1024,
  whiten_steps: int = 10**9,
  lr: float = 11.5,
  momentum: float = 0.85,
  weight_decay: float = 0.0153,
  bias_scale: float = 64.0,
  freeze: bool = True,
  average: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """SGD with Nesterov momentum whose rate, momentum and weight decay are decoupled.

  Args:
    total_steps: length of the run, also of the `triangle` schedule.
    batch_size: B; the gradient is that of the mean loss.
    whiten_steps: updates after which the bias of the whitening convolution stays as it is.
    lr: per 1024 examples, see `sgd_rate`.
    momentum: in [0, 1).
    weight_decay: per 1024 examples, decoupled from the rates.
    bias_scale: how much larger the rate of BN's biases is (not their decay).
    freeze: keep the kernel of the whitening convolution (`whiten/kernel`) as it is.
    average: end the chain with `lookahead`.

  Raises:
    ValueError: a number out of its range.
  """
  _check(lr=lr, bias_scale=bias_scale)
  check_number('momentum', momentum, 0, below=1)
  check_number('weight_decay', weight_decay, 0)
  rate = batch_size * sgd_rate(lr, momentum)
  decay = batch_size * sgd_rate(weight_decay, momentum)
  shape = triangle(total_steps)

  def group(rate):
    return optax.chain(
      optax.add_decayed_weights(decay / rate),
      optax.trace(momentum, nesterov=True),
      optax.scale_by_schedule(lambda step: -rate * shape(step)),
    )

  groups = {
    'frozen': optax.set_to_zero(),
    'whiten_bias': optax.chain(group(rate), _until(whiten_steps)),
    'norm': group(rate * bias_scale),
    'head': group(rate),
    'kernels': group(rate),
  }
  links = [optax.partition(groups, _labels(freeze))]
  return optax.chain(*links, *([lookahead(total_steps)] if average else []))


def airbench_muon(
  total_steps: int,
  batch_size: int = 2000,
  whiten_steps: int = 10**9,
  lr: float = 0.24,
  momentum: float = 0.6,
  bias_lr: float = 0.053,
  head_lr: float = 0.67,
  weight_decay: float = 2e-6,
  freeze: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """Muon on the 3x3 kernels, each held at a fixed norm; SGD with Nesterov momentum on the rest.

  A kernel [h, w, I, O] is orthogonalised as a matrix (h w I) x O in three Newton-Schulz steps
  (Jordan et al. 2024, kellerjordan.github.io/posts/muon). All rates fall linearly to 0.

  Args:
    total_steps: length of the run.
    batch_size: B; the gradient is that of the mean loss.
    whiten_steps: updates after which the bias of the whitening convolution stays as it is; its
      rate falls to 0 over them.
    lr, momentum: of Muon, per update.
    bias_lr: per example, of the biases; their momentum is .85.
    head_lr: per example, of the last layer.
    weight_decay: per example, of the biases and the last layer, decoupled from their rates.
    freeze: as in `airbench_sgd`.

  Raises:
    ValueError: a number out of its range.
  """
  _check(lr=lr, bias_lr=bias_lr, head_lr=head_lr)
  check_number('momentum', momentum, 0, below=1)
  check_number('weight_decay', weight_decay, 0)

  def group(rate, steps=total_steps):
    return optax.chain(
      optax.add_decayed_weights(weight_decay / rate),
      optax.trace(0.85, nesterov=True),
      optax.scale_by_schedule(optax.linear_schedule(-batch_size * rate, 0.0, steps)),
    )

  def muon():
    return optax.chain(
      optax.contrib.scale_by_muon(
        ns_steps=3, beta=momentum, nesterov=True, weight_dimension_numbers=_matrices
      ),
      optax.scale_by_schedule(optax.linear_schedule(-lr, 0.0, total_steps)),
      fixed_norm(),
    )

  groups = {
    'frozen': optax.set_to_zero(),
    'whiten_bias': group(bias_lr, min(whiten_steps, total_steps)),
    'norm': group(bias_lr),
    'head': group(head_lr),
    'kernels': muon(),
  }
  return optax.with_extra_args_support(optax.partition(groups, _labels(freeze)))


def _check(**rates):
  for name, rate in rates.items():
    check_number(name, rate, above=0)


def _until(steps: int) -> optax.GradientTransformationExtraArgs:
  """Updates pass `steps` times, then become zero: what is frozen by time needs no new program."""
  gate = lambda step: jnp.where(step < steps, 1.0, 0.0)
  return optax.with_extra_args_support(optax.scale_by_schedule(gate))


def _labels(freeze: bool):
  def label(path, w):
    names = [getattr(k, 'key', '') for k in path]
    if 'whiten' in names:
      return 'whiten_bias' if leaf_name(path) == 'bias' else 'frozen' if freeze else 'kernels'
    if 'head' in names:
      return 'head'
    return 'kernels' if is_kernel(path) and jnp.ndim(w) > 1 else 'norm'

  return lambda params: jax.tree_util.tree_map_with_path(label, params)


def _matrices(updates: PyTree) -> PyTree:
  axes = lambda w: optax.contrib.MuonDimensionNumbers(tuple(range(w.ndim - 1)), w.ndim - 1)
  return jax.tree.map(axes, updates)
