"""Adversarial patches: one image that makes a classifier err wherever it is pasted.

Brown et al. 2017 (arXiv 1712.09665). A patch is universal: it is trained over images, places and
rotations (`jaxdl.attacks.placement`), so it is the `params` of an ordinary training run; the
networks it is made for are `frozen`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.attacks.placement import Placement, paste, patched_images, sides
from jaxdl.attacks.victim import classifier
from jaxdl.core import Apply, Array, Model, Objective, Output
from jaxdl.losses.classification import cross_entropy
from jaxdl.losses.margin import cw
from jaxdl.options import check_name, check_number
from jaxdl.train.evaluate import predict

UNTARGETED = -1


class Pixels(NamedTuple):
  """How free parameters become pixels between two bounds.

  Attributes:
    encode: pixels -> parameters; the bounds themselves have none where they are only approached.
    decode: parameters -> pixels.
    link: the last link of the optimizer.
    low, high: the bounds, numbers or [h, w, C].
  """

  encode: Callable[[Array], Array]
  decode: Callable[[Array], Array]
  link: optax.GradientTransformation
  low: Array | float
  high: Array | float


def _sigmoid(low, high):
  logit = lambda x: jnp.log(x) - jnp.log1p(-x)
  return Pixels(
    lambda x: logit((x - low) / (high - low)), lambda x: low + (high - low) * jax.nn.sigmoid(x),
    optax.identity(), low, high,
  )


def _clip(low, high):
  kept = lambda u, p: jnp.clip(p + u, low, high) - p
  link = optax.stateless(lambda updates, params: jax.tree.map(kept, updates, params))
  return Pixels(lambda x: x, lambda x: jnp.clip(x, low, high), link, low, high)


PIXELS = {'sigmoid': _sigmoid, 'clip': _clip}


def pixels(name: str = 'sigmoid', low=0.0, high=1.0) -> Pixels:
  """Pixels between low and high, which they approach ('sigmoid') or are clipped to ('clip').

  Args:
    name: key of `PIXELS`.
    low, high: numbers or float [h, w, C] in [0, 1], low below high; see `near`.

  Raises:
    ValueError: an unknown name.
  """
  check_name('pixels', name, PIXELS)
  return PIXELS[name](low, high)


def near(picture, eps: float) -> tuple[Array, Array]:
  """The bounds of a disguised patch: within eps of a picture, max norm, and within [0, 1].

  The paper disguises a patch so: it must look like something harmless that was there before.

  Args:
    picture: float [h, w, C] in [0, 1].
    eps: pixel units.

  Raises:
    ValueError: eps not above 0 or above 1.
  """
  check_number('eps of a disguise', eps, above=0, most=1)
  return jnp.maximum(picture - eps, 0), jnp.minimum(picture + eps, 1)


def first_patches(
  count: int, size, channels: int, noise: float = 0.0, within: Pixels | None = None
) -> Callable[[Array], Array]:
  """Makes `start(key) -> float [count, h, w, channels]`: midway between the bounds of the pixels,
  give or take uniform noise.

  Args:
    count: T.
    size: side, or (height, width).
    channels: of the images.
    noise: as a share of the distance between the bounds.
    within: whose bounds; by default 0 and 1, so that the middle is gray.

  Raises:
    ValueError: noise outside 0..0.49, whose patches would touch the bounds.
  """
  check_number('noise', noise, 0, 0.49)
  shape = (count, *sides(size), channels)
  low, high = (within.low, within.high) if within else (0.0, 1.0)
  share = lambda key: 0.5 + noise * jax.random.uniform(key, shape, minval=-1.0)
  return lambda key: low + (high - low) * share(key)


def universal_patch(
  sources: Mapping[str, Apply], mask, targets, form: Pixels | None = None, kappa: float = 5.0
) -> Objective:
  """Several patches at once, each trained over the same batch at the same places.

  Of patch t the loss is the mean over the batch, and over the sources, of the cross-entropy to its
  target, zero for images of the target class; or, where it has no target, of the margin up to kappa
  (`losses.margin.cw`): cross-entropy has no such end, and a few examples would lead all others. The
  sum over patches is minimised, so that none feels the others. Batches need `place`, see `placed`.

  Args:
    sources: name -> apply of the networks that the patches are made for (several: an ensemble).
      `frozen[name]` is `(params, model_state)`.
    mask: float [h, w].
    targets: int [T], classes, or `UNTARGETED`.
    form: of the pixels, by default `pixels()`; `params` is `{'patch': float [T, h, w, C]}`, encoded
      so.
    kappa: of the untargeted margin.

  Raises:
    ValueError: a target below `UNTARGETED`, or a negative kappa.
  """
  form = form or pixels()
  check_number('kappa', kappa, 0)
  for target in targets:
    check_number('Each target', target, UNTARGETED, whole=True)
  targets = np.array(targets)
  free = targets == UNTARGETED

  def objective(params, model_state, batch, key, frozen):
    images, shape = batch['image'], (len(targets), len(batch['label']))
    labels = jnp.broadcast_to(batch['label'], shape)
    goals = jnp.broadcast_to(np.maximum(targets, 0)[:, None], shape)
    one = lambda patch: paste(images, patch, mask, batch['place'])
    patched = jax.vmap(one)(form.decode(params['patch']))
    patched = patched.reshape(-1, *images.shape[1:])
    counted = free[:, None] | (labels != targets[:, None])
    losses, hits = jnp.zeros(shape), jnp.zeros(shape)
    for name, apply in sources.items():
      logits = classifier(apply, *frozen[name])(patched)
      towards = cross_entropy(logits, goals.reshape(-1)).reshape(shape)
      away = -cw(logits, labels.reshape(-1), kappa).reshape(shape)
      logits = logits.reshape(*shape, -1)
      losses += jnp.where(free[:, None], away, jnp.where(counted, towards, 0))
      predicted = logits.argmax(-1)
      hits += counted & jnp.where(free[:, None], predicted != labels, predicted == goals)
    losses, hits = losses / len(sources), hits / len(sources)
    rate = lambda rows: hits[rows].sum() / jnp.maximum(counted[rows].sum(), 1)
    groups = {'success_untargeted': free, 'success_targeted': ~free}
    metrics = {name: rate(rows) for name, rows in groups.items() if rows.any()}
    return jnp.sum(jnp.mean(losses, axis=1)), Output(model_state, metrics)

  return objective


def success(patched, labels, clean, target: int = UNTARGETED) -> float:
  """The attack success rate of one patch at one placement each, in [0, 1].

  Untargeted: of the images that were classified correctly, the part that is not with the patch.
  Targeted: of the images of other classes that were classified correctly, the part that is now
  taken for the target; without leaving its own class out, any classifier would add that share.

  Args:
    patched: int [N], predictions with the patch.
    labels: int [N].
    clean: int [N], predictions without it.
    target: class, or `UNTARGETED`.

  Raises:
    ValueError: no image counts.
  """
  patched, labels, clean = (np.asarray(x) for x in (patched, labels, clean))
  counted = (clean == labels) & (labels != target)
  if not counted.any():
    raise ValueError(
      'No image counts for the success of a patch: the classifier is right on none of them (of '
      'other classes than the target); train it longer, or evaluate on more images.'
    )
  hit = patched != labels if target == UNTARGETED else patched == target
  return float(hit[counted].mean())


def patched_predictions(
  model: Model, params, model_state, images, patches, mask, place: Placement
) -> np.ndarray:
  """The classes predicted with each of several patches at the same places, int [T, N].

  Args:
    model: of the victim, evaluated in eval mode.
    params, model_state: of the victim.
    images: uint8 or float [N, H, W, C].
    patches: float [T, h, w, C] in [0, 1].
    mask: float [h, w].
    place: of each image [N].
  """
  seen = (patched_images(images, patch, mask, place) for patch in patches)
  return np.stack([predict(model, params, model_state, x).argmax(-1) for x in seen])
