"""What is in a teacher's soft targets, and what of it a student has learnt. NumPy, float64."""

import numpy as np
import scipy.special
import scipy.stats

from jaxdl.uncertainty.confidence import log_odds
from jaxdl.viz.calibration import calibration, nll


def softened(logits, temperature=1.0):
  """softmax(logits / T): float64 [N, K]."""
  return scipy.special.softmax(np.asarray(logits, np.float64) / temperature, axis=-1)


def entropy(logits, temperature=1.0) -> float:
  """Mean entropy of the softened predictions, in nats, between 0 and log K."""
  return float(scipy.special.entr(softened(logits, temperature)).sum(-1).mean())


def wrong_mass(logits, labels, temperature=1.0) -> float:
  """Mean probability that the softened predictions [N, K] give to all wrong classes together."""
  p = softened(logits, temperature)
  return float(1 - p[np.arange(len(p)), labels].mean())


def similarity(logits, labels, temperature=1.0) -> np.ndarray:
  """How alike the classes are to a network: [K, K], NaN on the diagonal and for absent classes.

  Row c: how it divides the probability that it does not give to class c, averaged over the examples
  of class c; each row sums to 1.
  """
  z = np.array(logits, np.float64) / temperature
  z[np.arange(len(z)), labels] = -np.inf
  p, classes = scipy.special.softmax(z, axis=-1), z.shape[1]
  out = np.full((classes, classes), np.nan)
  for c in np.unique(labels):
    out[c] = p[labels == c].mean(0)
  out[np.diag_indices(classes)] = np.nan
  return out


def agreement(one, other) -> float:
  """Pearson correlation of the logarithms of two `similarity` tables, off the diagonal."""
  both = np.isfinite(one) & np.isfinite(other)
  a, b = (np.log(np.maximum(x[both], 1e-12)) for x in (one, other))
  if both.sum() < 3 or a.std() == 0 or b.std() == 0:
    return 0.0  # nothing varies, so nothing varies together
  return float(np.corrcoef(a, b)[0, 1])


def examine(student, teacher, labels, temperature=4.0) -> dict[str, float]:
  """What a student's predictions share with a teacher's, on the same examples.

  Args:
    student, teacher: logits [N, K].
    labels: int [N].
    temperature: at which the division among wrong classes is read.

  Returns:
    'entropy' (nats), 'ECE' (15 bins, in [0, 1]), 'NLL' (nats), 'similarity' (see `agreement`),
    'confidence' (Spearman correlation of both log odds) and 'agree' (share of equal predictions).
  """
  p, labels = softened(student), np.asarray(labels)
  alike = [similarity(z, labels, temperature) for z in (student, teacher)]
  return {
    'entropy': entropy(student),
    'ECE': calibration(p, labels).ece,
    'NLL': nll(p, labels),
    'similarity': agreement(*alike),
    'confidence': float(scipy.stats.spearmanr(log_odds(student), log_odds(teacher)).statistic),
    'agree': float((np.argmax(student, -1) == np.argmax(teacher, -1)).mean()),
  }


def errors_on(logits, labels, classes=None) -> tuple[int, int]:
  """(wrong predictions, examples) among the examples of `classes` (default all)."""
  labels = np.asarray(labels)
  chosen = np.ones(len(labels), bool) if classes is None else np.isin(labels, classes)
  wrong = np.argmax(logits, -1) != labels
  return int((wrong & chosen).sum()), int(chosen.sum())


def shifted(logits, classes, bias) -> np.ndarray:
  """Logits [N, K] with `bias` added to those of `classes`."""
  out = np.array(logits, np.float64)
  out[:, list(classes)] += bias
  return out


def best_bias(logits, labels, classes) -> float:
  """The number that, added to the logits of `classes`, leaves the fewest errors (Hinton et al.
  2015, section 3).

  Exact: a prediction moves into `classes` where the bias passes the gap between the best logit
  outside and the best inside, so that errors only change at those gaps. Of the best stretch the
  middle is taken, and of several that which is nearest to 0.

  Args:
    logits: [N, K].
    labels: int [N].
    classes: some, not all, of 0..K-1.

  Raises:
    ValueError: no class, or all of them.
  """
  z, labels = np.asarray(logits, np.float64), np.asarray(labels)
  inside = np.zeros(z.shape[1], bool)
  inside[list(classes)] = True
  if not inside.any() or inside.all():
    raise ValueError(f'A bias needs some of the {len(inside)} classes and not all, got '
                     f'{list(classes)}.')
  best_in, best_out = np.where(inside, z, -np.inf), np.where(inside, -np.inf, z)
  gap = best_out.max(-1) - best_in.max(-1)
  gain = (best_in.argmax(-1) == labels).astype(int) - (best_out.argmax(-1) == labels)
  order = np.argsort(gap)
  gaps = gap[order]
  # right[i]: change of the right predictions where the bias lies between gaps i - 1 and i.
  right = np.concatenate([[0], np.cumsum(gain[order])])
  edges = np.concatenate([[gaps[0] - 2], gaps, [gaps[-1] + 2]])
  real = np.diff(edges) > 1e-9  # between gaps that differ by rounding there is no place
  middles = (edges[:-1] + edges[1:]) / 2
  # A stretch that holds 0 needs no bias at all.
  middles = np.where((edges[:-1] < 0) & (edges[1:] > 0), 0.0, middles)
  best = np.flatnonzero(real & (right == right[real].max()))
  return float(middles[best[np.abs(middles[best]).argmin()]])
