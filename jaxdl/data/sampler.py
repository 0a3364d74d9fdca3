"""Which examples make up batch n: a pure function of (seed, n).

The stream of examples is endless; position p lies in epoch p // N at offset p % N. Each epoch is an
exact permutation of 0..N-1, computed for the asked offsets alone: a Feistel network (Luby and
Rackoff 1988) permutes 0..2^b-1 for the smallest even b with 2^b >= N, and is applied again
wherever it leaves 0..N-1 (cycle walking, Black and Rogaway 2002). A batch may straddle epochs, so
no example is ever dropped. All arithmetic is uint32, equal in NumPy and JAX.
"""

import jax
import jax.numpy as jnp
import numpy as np

ROUNDS = 8
MAX_SIZE = 2**31 - 1
# An odd number near 2^32 / golden ratio; it also moves `_mix` off its fixed point 0.
_GOLDEN = np.uint32(0x9E3779B9)


def batch_indices(n, batch_size: int, size: int, seed: int, *, xp=jnp):
  """The examples of batch n: stream positions n * batch_size ... + batch_size - 1.

  Args:
    n: integer scalar >= 0, the number of the batch; may be traced if xp is jax.numpy.
    batch_size: B >= 1; may exceed the size.
    size: N, examples in the set, 1..2^31-1.
    seed: any Python int; seeds that agree modulo 2^64 are the same.
    xp: jax.numpy or numpy; the values are the same.

  Returns:
    int32 [B] in 0..N-1.
  """
  if not 1 <= size <= MAX_SIZE:
    raise ValueError(f'A set to sample from must have 1..{MAX_SIZE} examples, got {size}.')
  if not 1 <= batch_size <= MAX_SIZE:
    raise ValueError(f'The batch size must be 1..{MAX_SIZE}, got {batch_size}.')
  epoch, offset = _locate(_uint32(n, xp), batch_size, size, xp)
  offset = offset + xp.arange(batch_size, dtype=np.uint32)
  size32 = np.uint32(size)
  with np.errstate(over='ignore'):
    indices = permute(offset % size32, size, epoch + offset // size32, seed, xp=xp)
  return indices.astype(np.int32)


def permute(offset, size: int, epoch, seed: int, *, xp=jnp):
  """The example at each offset of an epoch: for fixed (seed, epoch) a permutation of 0..size-1.

  Args:
    offset: uint32 array, each in 0..size-1.
    size: N.
    epoch: uint32 array that broadcasts against offset.
    seed: any Python int.
    xp: jax.numpy or numpy.

  Returns:
    uint32 array of the broadcast shape.
  """
  half = max(1, ((size - 1).bit_length() + 1) // 2)
  low, high = np.uint32(seed % 2**32), np.uint32((seed >> 32) % 2**32)
  with np.errstate(over='ignore'):
    # The mixes between them keep epoch, low and high apart: (0, 1) must not equal (1, 0).
    key = _mix(_mix(_mix(_uint32(epoch, xp) + _GOLDEN) ^ low) + _GOLDEN ^ high)
    offset, key = xp.broadcast_arrays(_uint32(offset, xp), key)
    keys = [_mix(key + np.uint32((i + 1) * int(_GOLDEN) % 2**32)) for i in range(ROUNDS)]
    outside = lambda x: x >= np.uint32(size)
    walk = lambda x: xp.where(outside(x), _feistel(x, keys, half), x)
    x = _feistel(offset, keys, half)
    if xp is np:
      while outside(x).any():
        x = walk(x)
      return x
    return jax.lax.while_loop(lambda x: outside(x).any(), walk, x)


def _locate(n, batch_size: int, size: int, xp):
  """(n * batch_size) divided by size: quotient and remainder, without a product beyond 32 bits.

  Binary long multiplication that keeps (quotient, remainder) reduced after every doubling.
  """
  size = np.uint32(size)
  quotient = remainder = xp.zeros((), np.uint32)
  with np.errstate(over='ignore'):
    for bit in f'{batch_size:b}':
      quotient, remainder = _carry(quotient * 2, remainder * 2, size)
      if bit == '1':
        quotient, remainder = _carry(quotient + n // size, remainder + n % size, size)
  return quotient, remainder


def _carry(quotient, remainder, size):
  return quotient + remainder // size, remainder % size


def _feistel(x, keys, half: int):
  mask = np.uint32(2**half - 1)
  shift = np.uint32(half)
  left, right = x >> shift, x & mask
  for key in keys:
    left, right = right, left ^ (_mix(right ^ key) & mask)
  return left << shift | right


def _mix(x):
  """A bijection of uint32 whose output bits each depend on all input bits (Wellons' lowbias32)."""
  x = (x ^ x >> np.uint32(16)) * np.uint32(0x7FEB352D)
  x = (x ^ x >> np.uint32(15)) * np.uint32(0x846CA68B)
  return x ^ x >> np.uint32(16)


def _uint32(x, xp):
  return xp.asarray(x).astype(np.uint32)
