"""One program on many devices: how a batch is split, and `compile_step`, which runs a step so.

The batch is split along its first axis; parameters, optimizer and data set are on every device.
Numbers do not depend on the number of devices, up to the order of sums: gradients, metrics and
batch statistics are averaged over the axis `AXIS` wherever it is mapped, and augmentation draws
from the example's own key (`core.example_keys`). What does depend on it, by definition: dropout
masks, transforms that mix examples of a device (mixup), batch norm with `norm_axis=None`, and SAM
with `sync=False`.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

AXIS = 'data'
MODES = ('jit', 'pmap', 'shard_map')
PLATFORMS = ('cpu', 'gpu', 'tpu')
_MOST_CPU_DEVICES = 8
_LEAST_CPU_BATCH = 16  # images on one of several CPU devices; fewer cost more than they bring


def is_mapped(axis_name: str | None = AXIS) -> bool:
  """Whether this code is traced under `pmap`, `shard_map` or `vmap` over the named axis."""
  if axis_name is None:
    return False
  try:
    lax.axis_size(axis_name)
  except NameError:
    return False
  return True


def mean(tree):
  """The average over the devices of a mapped step; anywhere else the tree as it is."""
  return lax.pmean(tree, AXIS) if is_mapped() else tree


def part() -> tuple:
  """(number of this device, count of devices) in a mapped step; anywhere else (0, 1)."""
  return (lax.axis_index(AXIS), lax.axis_size(AXIS)) if is_mapped() else (0, 1)


def device_key(key):
  """A key of this device's own in a mapped step; anywhere else the key as it is."""
  return jax.random.fold_in(key, lax.axis_index(AXIS)) if is_mapped() else key


class Layout(NamedTuple):
  """Which devices a run uses, and how.

  Attributes:
    mode: 'jit' (XLA splits the program), 'pmap' or 'shard_map' (each device runs the step on its
      part of the batch).
    devices: of all processes; empty for JAX's default device.
  """

  mode: str = 'jit'
  devices: tuple = ()

  @property
  def count(self) -> int:
    """The number of devices, at least 1."""
    return max(1, len(self.devices))

  @property
  def mesh(self) -> Mesh:
    """The devices as a line."""
    return Mesh(np.array(self.devices), (AXIS,))

  @property
  def everywhere(self):
    """The sharding of what every device holds whole."""
    if self.count == 1:
      return SingleDeviceSharding(self.devices[0] if self.devices else jax.devices()[0])
    return NamedSharding(self.mesh, PartitionSpec())

  def replicate(self, tree):
    """Puts arrays, the same on every process, on every device; leaves of a tree that is there
    already are not copied."""
    if self.count == 1:
      return jax.device_put(tree, self.devices[0]) if self.devices else jax.device_put(tree)
    if jax.process_count() == 1:
      return jax.device_put(tree, self.everywhere)
    return jax.tree.map(self._from_process, tree)

  def _from_process(self, x):
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
      return x
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      return jax.random.wrap_key_data(self._from_process(jax.random.key_data(x)))
    return jax.make_array_from_process_local_data(self.everywhere, np.asarray(x))

  def split(self, batch):
    """Puts this process's rows of a batch on its devices, each device getting an equal part."""
    if self.count == 1 or self.mode == 'pmap':
      return batch
    sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
    put = lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x))
    return jax.tree.map(put, batch)

  def scatter(self, batch):
    """`split` of a batch of which every process has all rows."""
    if self.count == 1:
      return batch
    sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
    return jax.tree.map(
      lambda x: jax.make_array_from_callback(x.shape, sharding, lambda rows, x=x: x[rows]), batch
    )

  def gather(self, tree):
    """The same arrays on this process's first device alone."""
    if self.count == 1:
      return tree
    return jax.tree.map(lambda x: x.addressable_data(0), tree)

  def to_save(self, tree):
    """What a checkpoint is written from: one process has it all on its first device."""
    return self.gather(tree) if jax.process_count() == 1 else tree

  def constrain(self, batch):
    """Inside a program that XLA splits: says that the batch is to be split."""
    if self.count == 1 or self.mode != 'jit':
      return batch
    return lax.with_sharding_constraint(batch, NamedSharding(self.mesh, PartitionSpec(AXIS)))

  def shapes(self, tree):
    """The tree's shapes and types, with the sharding of `replicate`."""
    put = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.everywhere)
    return jax.tree.map(put, tree)


def compile_step(fn: Callable, layout: Layout = Layout(), *, resident: bool = False) -> Callable:
  """Compiles a step for a layout; the same function serves all of them.

  Args:
    fn: `fn(state, batch, *rest) -> tree`, from `grad_step` or built on it. What it returns must be
      the same on all devices, as a `grad_step`'s state and metrics are.
    layout: the devices and the mode.
    resident: the second argument is not a batch, but a whole data set that every device holds; `fn`
      takes its `part()` of the batch itself.

  Returns:
    A function of the same arguments; the first is donated. The state comes from
    `layout.replicate`; a batch holds the rows of all devices.

  Raises:
    ValueError: when called with a batch that the devices do not divide.
  """
  if layout.count == 1:
    return jax.jit(fn, donate_argnums=0)
  if layout.mode == 'jit':
    split = (lambda x: x) if resident else layout.constrain
    program = lambda state, batch, *rest: fn(state, split(batch), *rest)
    compiled = jax.jit(program, donate_argnums=0, out_shardings=layout.everywhere)
  elif layout.mode == 'shard_map':
    compiled = _shard_map(fn, layout, resident)
  else:
    compiled = _pmap(fn, layout, resident)

  def call(state, batch, *rest):
    if not resident:
      _require_divisible(jax.tree.leaves(batch)[0].shape[0], layout.count)
    return compiled(state, batch, *rest)

  return call


def _shard_map(fn, layout, resident):
  whole, rows = PartitionSpec(), PartitionSpec(AXIS)

  def program(state, batch, *rest):
    specs = (whole, whole if resident else rows, *(whole for _ in rest))
    # The convolution rule for CPUs keeps no account of which values differ between devices.
    mapped = jax.shard_map(
      fn, mesh=layout.mesh, in_specs=specs, out_specs=whole, check_vma=False
    )
    return mapped(state, batch, *rest)

  return jax.jit(program, donate_argnums=0)


def _pmap(fn, layout, resident):
  if jax.process_count() > 1:
    raise ValueError("pmap is for the devices of one process: use --mode=jit or --mode=shard_map.")
  counter = np.arange(layout.count)  # pmap wants at least one argument with a mapped axis
  rows = lambda x: x.reshape(layout.count, x.shape[0] // layout.count, *x.shape[1:])
  programs = {}

  def call(state, batch, *rest):
    if len(rest) not in programs:
      axes = (0, None, None if resident else 0, *(None for _ in rest))
      programs[len(rest)] = jax.pmap(
        lambda _, *arguments: fn(*arguments),
        axis_name=AXIS, in_axes=axes, out_axes=None, devices=layout.devices,
      )
    return programs[len(rest)](counter, state, batch if resident else jax.tree.map(rows, batch),
                               *rest)

  return call


def _require_divisible(batch_size, count):
  if batch_size % count:
    below, above = batch_size // count * count, -(-batch_size // count) * count
    near = f'{below} or {above}' if below else f'{above}'
    raise ValueError(
      f'A batch of {batch_size} does not divide over {count} devices: take a batch size of {near}, '
      'or another --devices.'
    )


class _Request(NamedTuple):
  devices: int = 1
  mode: str = 'auto'
  exact: bool = False  # the user named a number


_request = _Request()


def configure(*, platform: str = '', devices: int = 0, mode: str = 'auto',
              distributed: bool = False) -> None:
  """Says, once and before JAX is used, which devices every following `fit` shall use.

  Without it a run uses JAX's default device.

  Args:
    platform: 'cpu', 'gpu' or 'tpu'; '' for the best there is.
    devices: how many in each process; 0 for all. On a CPU, one per core: XLA gains about a third
      from a batch that is split.
    mode: one of `MODES`, or 'auto': 'jit' on accelerators, 'shard_map' on CPUs.
    distributed: one of several processes, see `_join`.

  Raises:
    ValueError: an option is wrong, or what is asked for is not there.
  """
  global _request
  if platform not in ('', *PLATFORMS):
    raise ValueError(f'--platform must be one of {", ".join(PLATFORMS)}, not {platform!r}.')
  if mode not in ('auto', *MODES):
    raise ValueError(f'--mode must be one of auto, {", ".join(MODES)}, not {mode!r}.')
  if devices < 0:
    raise ValueError(f'--devices must be at least 1, or 0 for all, not {devices}.')
  if platform:
    jax.config.update('jax_platforms', 'cuda' if platform == 'gpu' else platform)
  if 'xla_force_host_platform_device_count' not in os.environ.get('XLA_FLAGS', ''):
    cores = 1 if distributed else min(len(os.sched_getaffinity(0)), _MOST_CPU_DEVICES)
    jax.config.update('jax_num_cpu_devices', devices or cores)
  if distributed:
    _join()
  try:
    there = jax.local_device_count()
  except (RuntimeError, AssertionError) as error:  # without its plugin, JAX just asserts
    wanted = platform or os.environ.get('JAX_PLATFORMS') or 'a device'
    reason = (str(error).splitlines() or ['its plugin is not installed'])[0].strip().rstrip('.')
    raise ValueError(
      f'JAX finds no {wanted} here ({reason}): choose '
      '--platform=cpu, or install jax for that device (see the README).'
    ) from error
  if devices > there:
    raise ValueError(f'--devices={devices}, but this process has only {there}.')
  _request = _Request(devices or there, mode, devices > 0)


def _join() -> None:
  """Joins the other processes: those that JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
  JAX_PROCESS_ID tell of, or else those of SLURM, a TPU VM or Open MPI, which JAX finds itself."""
  address = os.environ.get('JAX_COORDINATOR_ADDRESS')
  count, number = os.environ.get('JAX_NUM_PROCESSES'), os.environ.get('JAX_PROCESS_ID')
  if address and not (count or '').isdigit() or address and not (number or '').isdigit():
    raise ValueError(
      'JAX_COORDINATOR_ADDRESS is set, so JAX_NUM_PROCESSES and JAX_PROCESS_ID must be numbers; '
      f'they are {count!r} and {number!r}.'
    )
  # It would take SIGTERM away from `train.interrupt`, which makes all processes stop together.
  jax.config.update('jax_enable_preemption_service', False)
  try:
    if address:
      jax.distributed.initialize(address, int(count), int(number))
    else:
      jax.distributed.initialize()
  except (RuntimeError, ValueError) as error:
    raise ValueError(
      f'--distributed could not join the other processes ({str(error).splitlines()[0]}): start '
      'them with launch/local_multiprocess.sh, launch/slurm.sbatch or launch/tpu_vm.sh.'
    ) from error


def _devices(count):
  """The first `count` devices of this process, or all devices of several processes in order."""
  if jax.process_count() == 1:
    return tuple(jax.local_devices()[:count])
  return tuple(sorted(jax.devices(), key=lambda d: (d.process_index, d.id)))


def layout(batch_size: int, microbatches: int = 1) -> Layout:
  """The layout for a batch, as `configure` was told.

  Args:
    batch_size: over all devices.
    microbatches: equal slices of the batch that a step also takes, each split over the devices.

  Raises:
    ValueError: the devices do not divide the batch. On the CPUs of one process, where no number was
      asked for, fewer are taken instead.
  """
  count, mode, exact = _request
  if count == 1 and jax.process_count() == 1:
    return Layout()
  on_cpu = jax.default_backend() == 'cpu'
  if on_cpu and not exact and jax.process_count() == 1:
    fits = (d for d in range(count, 0, -1) if batch_size // microbatches % d == 0)
    count = next(d for d in fits if d == 1 or batch_size // d >= _LEAST_CPU_BATCH)
  devices = _devices(count)
  _require_divisible(batch_size // microbatches, len(devices))
  if len(devices) == 1:
    return Layout()
  return Layout(('shard_map' if on_cpu else 'jit') if mode == 'auto' else mode, devices)


def evaluation_layout(batch_size: int) -> Layout:
  """The layout for a forward pass over a batch that may be padded."""
  count = min(_request.devices, max(1, batch_size // _LEAST_CPU_BATCH))
  if count == 1 and jax.process_count() == 1:
    return Layout()
  return Layout('jit', _devices(count))


def is_first() -> bool:
  """Whether this process is the one that writes."""
  return jax.process_count() == 1 or jax.process_index() == 0


def barrier(name: str) -> None:
  """Waits until every process has come here."""
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)


def largest(number: int) -> int:
  """The largest of the numbers that the processes bring; all must call it together."""
  if jax.process_count() == 1:
    return number
  from jax.experimental import multihost_utils

  return int(np.max(multihost_utils.process_allgather(np.int32(number))))
