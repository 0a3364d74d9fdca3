"""Random crops of a padded image and horizontal flips (He et al. 2015, section 4.2)."""

import jax
import jax.numpy as jnp

from jaxdl.core import BatchTransform, example_keys

_MODES = ('constant', 'reflect')


def crop_flip(pad: int = 4, mode: str = 'constant', flip: bool = True) -> BatchTransform:
  """Each image: pad all sides, cut a random window of the original size, flip it half the time.

  Args:
    pad: pixels on every side, >= 0; offsets are uniform on 0..2 pad in both axes.
    mode: 'constant' (zeros, black) or 'reflect' (mirrored without repeating the edge).
    flip: whether to flip left and right with probability 1/2.

  Raises:
    ValueError: an unknown mode or a negative pad; when called, images that are not [B, H, W, C] or
      are too small to be reflected.
  """
  if mode not in _MODES:
    raise ValueError(f'Unknown padding mode {mode!r}; choose one of {_MODES}.')
  if pad < 0:
    raise ValueError(f'The padding must be at least 0, got {pad}.')

  def transform(params, model_state, batch, key, frozen):
    x = batch['image']
    _require_images(x)
    if mode == 'reflect' and pad >= min(x.shape[1:3]):
      raise ValueError(f'Cannot reflect {pad} pixels of an image of shape {x.shape[1:]}.')
    keys = example_keys(key, batch)
    if pad:
      offset = lambda key: jax.random.randint(key, (2,), 0, 2 * pad + 1)
      x = _windows(x, jax.vmap(offset)(keys), pad, mode)
    if flip:
      mirrored = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, 1)))(keys)
      x = jnp.where(mirrored[:, None, None, None], x[:, :, ::-1], x)
    return {**batch, 'image': x}

  return transform


def random_crop(pad: int = 4, mode: str = 'constant') -> BatchTransform:
  """`crop_flip` without the flip."""
  return crop_flip(pad, mode, flip=False)


def random_flip() -> BatchTransform:
  """`crop_flip` without the crop."""
  return crop_flip(pad=0, flip=True)


def _windows(x, offsets, pad: int, mode: str):
  """x [B, H, W, C], offsets int [B, 2] in 0..2 pad -> [B, H, W, C]."""
  padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=mode)
  window = lambda image, o: jax.lax.dynamic_slice(image, (o[0], o[1], 0), x.shape[1:])
  return jax.vmap(window)(padded, offsets)


def _require_images(x) -> None:
  if x.ndim != 4:
    raise ValueError(f'Crops and flips need images [B, H, W, C], got shape {x.shape}.')
