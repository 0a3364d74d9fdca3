import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.augment import compose, crop_flip, random_crop, random_flip


def batch_of(n=8, h=6, w=5, c=2, seed=0):
  image = jax.random.uniform(jax.random.key(seed), (n, h, w, c), minval=0.1)
  return {'image': image, 'label': jnp.arange(n), 'index': jnp.arange(n) * 3}


def run(transform, batch, key=0):
  return transform(None, None, batch, jax.random.key(key), None)


def windows(image, pad, mode):
  """Every sub-window of one padded image, by its offset."""
  padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
  h, w, _ = image.shape
  steps = range(2 * pad + 1)
  return {(i, j): padded[i : i + h, j : j + w] for i in steps for j in steps}


def offset_of(cropped, image, pad, mode):
  found = [o for o, x in windows(image, pad, mode).items() if (x == cropped).all()]
  assert len(found) == 1
  return found[0]


@pytest.mark.parametrize('mode', ['constant', 'reflect'])
def test_every_crop_is_a_window_of_the_padded_image(mode):
  batch = batch_of(n=64)
  cropped = run(random_crop(2, mode), batch)['image']
  offsets = [
    offset_of(np.asarray(x), np.asarray(y), 2, mode)
    for x, y in zip(cropped, batch['image'], strict=True)
  ]
  assert len(set(offsets)) > 10  # of 25, each example drawing its own
  assert {i for i, _ in offsets} == {j for _, j in offsets} == set(range(5))


def test_offsets_are_uniform_and_axes_independent():
  image = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1) + 1
  batch = {'image': jnp.tile(image, (9000, 1, 1, 1))}
  cropped = np.asarray(run(random_crop(1), batch)['image'])
  centres, counts = np.unique(cropped[:, 1, 1, 0], return_counts=True)
  assert centres.tolist() == list(range(1, 10))
  assert (np.abs(counts - 1000) < 5 * np.sqrt(1000)).all()


def test_half_of_the_images_are_mirrored_left_to_right():
  batch = batch_of(n=2000)
  flipped = np.asarray(run(random_flip(), batch)['image'])
  x = np.asarray(batch['image'])
  same = (flipped == x).all((1, 2, 3))
  mirrored = (flipped == x[:, :, ::-1]).all((1, 2, 3))
  assert (same ^ mirrored).all()
  assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(2000)


def test_crop_flip_is_a_crop_then_a_flip():
  batch = batch_of(n=32)
  for x, y in zip(run(crop_flip(1), batch)['image'], batch['image'], strict=True):
    found = [np.asarray(v) for v in windows(np.asarray(y), 1, 'constant').values()]
    assert any((x == v).all() or (x == v[:, ::-1]).all() for v in found)


def test_no_padding_and_no_flip_is_the_identity():
  batch = batch_of()
  for transform in (crop_flip(0, flip=False), random_crop(0), compose()):
    out = run(transform, batch)
    assert (out['image'] == batch['image']).all()


@pytest.mark.parametrize('transform', [crop_flip(2), crop_flip(2, 'reflect'), random_flip()])
def test_keys_decide_and_jit_does_not(transform):
  batch = batch_of()
  eager, again, other = run(transform, batch), run(transform, batch), run(transform, batch, key=1)
  jitted = jax.jit(lambda b, k: transform(None, None, b, k, None))(batch, jax.random.key(0))
  assert (eager['image'] == again['image']).all() and (eager['image'] == jitted['image']).all()
  assert (eager['image'] != other['image']).any()


def test_the_rest_of_the_batch_and_the_argument_are_untouched():
  batch = {**batch_of(), 'box': jnp.ones((8, 4))}
  before = np.asarray(batch['image']).copy()
  out = run(crop_flip(2), batch)
  assert out.keys() == batch.keys() and (batch['image'] == before).all()
  assert all(out[name] is batch[name] for name in ('label', 'index', 'box'))
  assert out['image'].shape == batch['image'].shape and out['image'].dtype == jnp.float32


def test_integer_images_stay_integers():
  image = jnp.arange(2 * 4 * 4, dtype=jnp.uint8).reshape(2, 4, 4, 1)
  assert run(crop_flip(1), {'image': image})['image'].dtype == jnp.uint8


def test_wrong_settings_and_shapes_are_refused():
  with pytest.raises(ValueError, match="Unknown padding mode 'edge'"):
    crop_flip(mode='edge')
  with pytest.raises(ValueError, match='at least 0, got -1'):
    random_crop(-1)
  with pytest.raises(ValueError, match=r'\[B, H, W, C\], got shape \(6, 5, 2\)'):
    run(crop_flip(), {'image': jnp.zeros((6, 5, 2))})
  with pytest.raises(ValueError, match='Cannot reflect 5 pixels'):
    run(crop_flip(5, 'reflect'), batch_of())
