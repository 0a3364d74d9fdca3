"""What a report reads off soft targets, against enumeration and scipy."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats

from jaxdl.distillation.evidence import (
  agreement,
  best_bias,
  entropy,
  errors_on,
  examine,
  log_odds,
  shifted,
  similarity,
  softened,
  wrong_mass,
)
from jaxdl.distillation.runs import Run, mean, over, paired
from jaxdl.distillation.students import Student
from jaxdl.distillation.unseen import correct_bias

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 5, 60)
LOGITS = RNG.normal(size=(60, 5)) + 2 * np.eye(5)[LABELS]


@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 3))
@hypothesis.settings(max_examples=40)
def test_the_best_bias_is_the_best_of_all(seed, count):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 4, 25)
  logits = rng.normal(size=(25, 4)) + 0.5 * np.eye(4)[labels]
  logits[:5] = logits[5:10]  # equal gaps
  classes = list(rng.permutation(4)[:count])
  bias = best_bias(logits, labels, classes)
  errors = lambda b: errors_on(shifted(logits, classes, b), labels)[0]
  every = [errors(b) for b in np.arange(-8, 8, 0.0173)]
  assert errors(bias) <= min(every)
  if errors(0) == min(every):
    assert bias == 0  # where nothing is gained, nothing is changed


def test_a_bias_brings_an_unseen_class_back():
  logits = LOGITS.copy()
  logits[:, 3] -= 6
  run = Run({}, {}, {'test': logits, 'validation': logits[::2]},
            {'test': LABELS, 'validation': LABELS[::2]})
  found = correct_bias(run, (3,))
  assert found.unseen[0] == 0 and found.unseen[2] > 40 and found.unseen[1] > 40
  assert found.errors[2] <= found.errors[1] < found.errors[0]
  assert 4 < found.bias[1] < 8
  few = correct_bias(run._replace(logits={k: -z for k, z in run.logits.items()}), (0, 1, 2))
  np.testing.assert_allclose(  # the seen classes are moved where they are fewer
    few.bias[1], best_bias(-logits, LABELS, [3, 4])
  )


def test_a_bias_for_all_or_no_classes_is_refused():
  for classes in ([], range(5)):
    with pytest.raises(ValueError, match='some of the 5 classes and not all'):
      best_bias(LOGITS, LABELS, classes)


def test_entropy_and_mass_grow_with_the_temperature():
  ts = (0.5, 1.0, 4.0, 1e4)
  for f, limit in ((entropy, np.log(5)), (lambda z, t: wrong_mass(z, LABELS, t), 0.8)):
    values = [f(LOGITS, t) for t in ts]
    assert values == sorted(values)
    np.testing.assert_allclose(values[-1], limit, rtol=1e-3)
  want = scipy.stats.entropy(softened(LOGITS, 2.0), axis=1).mean()
  np.testing.assert_allclose(entropy(LOGITS, 2.0), want, rtol=1e-12)


def test_similarity_divides_what_the_true_class_leaves():
  table = similarity(LOGITS, LABELS, 2.0)
  p = softened(LOGITS, 2.0)
  for c in range(5):
    rows = p[c == LABELS].copy()
    rows[:, c] = 0
    want = (rows / rows.sum(1, keepdims=True)).mean(0)
    np.testing.assert_allclose(np.delete(table[c], c), np.delete(want, c), rtol=1e-9)
  assert np.isnan(np.diag(table)).all()
  np.testing.assert_allclose(np.nansum(table, 1), 1)
  # How sure the network is of the true class does not matter.
  surer = LOGITS + 9 * np.eye(5)[LABELS]
  np.testing.assert_allclose(similarity(surer, LABELS, 2.0), table, rtol=1e-9)
  np.testing.assert_allclose(agreement(table, table), 1)
  assert agreement(table, np.where(np.isnan(table), np.nan, 0.25)) == 0
  assert np.isnan(similarity(LOGITS[LABELS != 2], LABELS[LABELS != 2])[2]).all()


def test_log_odds_have_no_ties_where_probabilities_do():
  sure = np.array([[40.0, 0, 0], [50.0, 0, 0]])
  assert softened(sure).max(-1).tolist() == [1.0, 1.0]
  np.testing.assert_allclose(log_odds(sure), [40 - np.log(2), 50 - np.log(2)])
  p = softened(LOGITS).max(-1)
  np.testing.assert_allclose(log_odds(LOGITS), np.log(p / (1 - p)), rtol=1e-9)


def test_a_student_is_examined_beside_its_teacher():
  same = examine(LOGITS, LOGITS, LABELS)
  assert same['similarity'] == pytest.approx(1) and same['confidence'] == pytest.approx(1)
  assert same['agree'] == 1
  other = examine(RNG.normal(size=(60, 5)), LOGITS, LABELS)
  assert other['similarity'] < 0.9 and other['agree'] < 0.6 and other['NLL'] > same['NLL']


def test_runs_count_errors_over_seeds_and_in_pairs():
  result = {'test': {'accuracy': 0.5}}
  log = {'test/accuracy': (np.array([1, 2]), np.array([0.7, 0.5]))}
  runs = [
    Run(result, log, {'test': z}, {'test': LABELS}) for z in (LOGITS, np.eye(5)[LABELS])
  ]
  wrong = 1e4 * (LOGITS.argmax(1) != LABELS).mean()
  assert runs[0].wrong() == wrong and runs[1].wrong() == 0
  threes = LABELS == 3
  assert runs[0].wrong(classes=[3]) == 1e4 * (LOGITS[threes].argmax(1) != 3).mean()
  assert runs[0].last() == 50 and runs[0].best() == 70
  assert mean(runs, Run.wrong) == wrong / 2 and '(n = 2)' in over(runs, Run.wrong)
  missed = int((LOGITS.argmax(1) != LABELS).sum())
  assert paired(runs[:1], runs[1:]) == pytest.approx(min(1, 2 * 0.5**missed))


def test_names_of_students_are_unique_and_fit_a_folder():
  students = [
    Student(30), Student(30, 1.0, 2.5), Student(30, 0.9, 2.5), Student(30, 1.0, 2.5, (3,)),
    Student(30, without=(3,)), Student(300, 1.0, 2.5),
  ]
  names = [s.name for s in students]
  assert len(set(names)) == len(names) and names[1] == 'h30-a1-T2p5'
  assert all(set(name) <= set('abcdefghijklmnopqrstuvwxyzT0123456789-') for name in names)
