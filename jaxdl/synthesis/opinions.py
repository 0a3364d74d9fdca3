"""What networks see in images, and how near images are to others by a network's features."""

from typing import NamedTuple

import numpy as np
import scipy.special

from jaxdl.attacks.inversion import representing
from jaxdl.core import Model
from jaxdl.image_quality import classifier_score, frechet_distance
from jaxdl.train.evaluate import predict


class Network(NamedTuple):
  """A trained network, in the order `predict` and `attack_images` take it."""

  model: Model
  params: dict
  model_state: dict


def eye(network):
  """The network with its representation [B, D] in place of the logits."""
  return network._replace(model=representing(network.model))


def distance(judge, images, others):
  """Of two sets of images, by the judge's representation."""
  return frechet_distance(*(predict(*eye(judge), x) for x in (images, others)))


def opinion(network, images, labels):
  """The share of the images that a network takes for these classes, its mean confidence in them,
  and the classifier score of all its predictions."""
  p = scipy.special.softmax(np.asarray(predict(*network, images), np.float64), axis=-1)
  return {
    'agreement': float((p.argmax(-1) == labels).mean()),
    'confidence': float(p[np.arange(len(labels)), labels].mean()),
    'score': classifier_score(p),
  }


def moved(images, seeds):
  """The mean L2 distance, in pixel units."""
  return float(np.linalg.norm((images - seeds).reshape(len(seeds), -1), axis=1).mean())
