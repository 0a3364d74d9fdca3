"""What a network of the study is trained from: a mask and weights, made of those trained before.

Every arm is a function of a `Source`; each gives `(mask, weights)`.
"""

import functools
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import jax

from jaxdl.core import PyTree, bind
from jaxdl.data.dataset import per_class
from jaxdl.sparsity import criteria, held, masks, saliency, tickets
from jaxdl.train import classifier

AT_INIT = ('snip', 'grad', 'grasp', 'synflow')  # the other saliency wants trained weights
FRESH = ('reinit', 'reinit_same_sign')  # arms that train all steps, from step 0


class Source(NamedTuple):
  """What an arm makes its mask and its weights of.

  Attributes:
    t: the task.
    seed: of the run.
    k: step to rewind to.
    scope, allowed: of the pruning.
    folder: 'dense', 'early' (at step k), 'parent' (what is pruned further) or 'ticket' (of the same
      density) -> folder of that stage.
  """

  t: classifier.Task
  seed: int
  k: int
  scope: str
  allowed: PyTree
  folder: Mapping[str, pathlib.Path]

  def drawn(self, draw=None):
    """The initial weights of this run, or another draw."""
    key = jax.random.key(self.seed)
    key = key if draw is None else jax.random.fold_in(key, 1 + draw)
    return tickets.drawn(self.t.model, self.t.dataset.image_shape, key)

  def rewound(self):
    if self.k == 0:
      return self.drawn()
    return tickets.Weights(*classifier.load_weights(self.folder['early']), self.k)

  def trained(self, which='dense'):
    return tickets.Weights(*classifier.load_weights(self.folder[which]))

  def mask(self, which='ticket'):
    return tickets.load_mask(self.folder[which], self.drawn().params)

  def everything(self):
    return masks.full(self.drawn().params)


def ticket(s, rate, rates):
  """One round of IMP: prune what was trained last, rewind."""
  final, mask = s.trained('parent').params, s.mask('parent')
  return tickets.pruned_by_magnitude(final, mask, s.allowed, rate, s.scope, rates), s.rewound()


def finetuned(s, rate, rates):
  """One round of Han et al. 2015: prune what was trained last, go on from there."""
  weights = s.trained('parent')
  mask = tickets.pruned_by_magnitude(weights.params, s.mask('parent'), s.allowed, rate, s.scope,
                                     rates)
  return mask, weights


def again(s):
  """The same ticket; with another seed of the training, another order of the data."""
  return s.mask(), s.rewound()


def one_shot(s):
  """The dense network pruned at once to the ticket's density, by layers to that of every layer."""
  final, like = s.trained().params, s.mask()
  if s.scope == 'layer':
    return masks.prune_like(jax.tree.map(abs, final), like, s.allowed), s.rewound()
  rate = 1 - masks.density(like, s.allowed)
  return tickets.pruned_by_magnitude(final, s.everything(), s.allowed, rate), s.rewound()


def random_mask(s):
  """As many weights in every layer, others; the ticket's weights."""
  return masks.random_like(s.mask(), s.allowed, jax.random.key(s.seed)), s.rewound()


def restarted(s, action, draw=0):
  """The ticket's mask over other weights (the mask-1 actions of Zhou et al.)."""
  fresh, key = s.drawn(draw), jax.random.fold_in(jax.random.key(s.seed), 1 + draw)
  start = fresh if action in FRESH else s.rewound()
  initial = s.rewound().params
  params = criteria.ACTIONS[action](initial, s.mask(), s.allowed, key, lambda _: fresh.params)
  return s.mask(), start._replace(params=params)


def frozen(s, action):
  """The ticket; what is pruned stays at other values than zero (mask-0 actions of Zhou et al.).

  Training moves a weight from where it is rewound to, to where it was in the dense network.
  """
  mask, start = s.mask(), s.rewound()
  weights = held.ACTIONS[action](start.params, s.trained().params, mask, s.allowed,
                                 jax.random.key(s.seed))
  params, values = held.split(weights, mask)
  return mask, start._replace(params=params, model_state={**start.model_state, held.HELD: values})


def chosen(s, name, keep, images):
  """A mask by another criterion, of weights before and after training or of gradients.

  With the scope 'layer' it keeps as many weights of every layer as the ticket. Saliencies rank all
  layers together, and keep as many in all.
  """
  everything, key = s.everything(), jax.random.key(s.seed)
  like = s.mask() if s.scope == 'layer' else None
  if name in criteria.NAMES:
    weights, final = s.rewound(), s.trained().params
    return criteria.mask(name, weights.params, final, everything, s.allowed, keep, s.scope, key,
                         like=like), weights
  keep = keep if like is None else masks.density(like, s.allowed)
  seen = per_class(s.t.train, images, s.seed)
  at = s.drawn() if name in AT_INIT else s.trained()
  model = bind(s.t.module) if name == 'synflow' else s.t.model
  mask = saliency.mask(name, model, at.params, at.model_state, seen.images, seen.labels,
                       everything, s.allowed, keep)
  return mask, at if name in AT_INIT else s.rewound()


# name -> Source -> (mask, weights)
ARMS = {
  'oneshot': one_shot, 'random': random_mask,
  **{a: functools.partial(restarted, action=a) for a in criteria.ACTIONS if a != 'rewind'},
  **{a: functools.partial(frozen, action=a) for a in held.ACTIONS},
}
