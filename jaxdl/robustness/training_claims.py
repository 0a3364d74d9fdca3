"""The claims of the study of adversarial training as sentences, each with our numbers."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxdl.robustness.verdict import error, said, verdict


def claims(
  runs: Mapping[str, Sequence[Mapping]], attacked: int, autoattacked: int
) -> Iterator[str]:
  """The papers' claims; a miss is said as one, and so is a difference within the noise.

  Args:
    runs: arm -> what `jaxdl.robustness.attacked.withstands` said of its network, for each seed.
    attacked, autoattacked: images under PGD and under AutoAttack.
  """
  mean = lambda arm, key: 100 * float(np.mean([run[key] for run in runs[arm]]))
  for arm in runs:
    if arm != 'standard' and 'standard' in runs:
      ours, theirs = mean(arm, 'PGD'), mean('standard', 'PGD')
      yield (f'{arm} withstands PGD better than standard training: '
             f'{said(ours > theirs + error(ours, theirs, attacked))} ({ours:.1f} % against '
             f'{theirs:.1f} %).')
  for one, other, key, claim in (
    ('standard', 'pgd', 'clean', 'Robustness costs clean accuracy'),
    ('trades', 'pgd', 'AutoAttack', 'TRADES withstands AutoAttack better than PGD training'),
    ('pgd_awp', 'pgd', 'PGD', 'Weight perturbation (AWP) helps PGD training against PGD'),
    ('pgd_sam', 'pgd', 'PGD', 'SAM helps PGD training against PGD'),
    ('pgd_ema', 'pgd', 'PGD', 'Averaging the weights helps PGD training against PGD'),
    ('pgd_awp_ema', 'pgd', 'AutoAttack',
     'Weight perturbation and averaging help PGD training against AutoAttack'),
  ):
    if one in runs and other in runs:
      a, b = mean(one, key), mean(other, key)
      noise = error(a, b, autoattacked if key == 'AutoAttack' else attacked)
      yield f'{claim}: {verdict(a - b, noise)} ({one} {a:.1f} %, {other} {b:.1f} %).'
  if 'fgsm_rs' in runs and 'pgd' in runs:
    a, b = mean('fgsm_rs', 'PGD'), mean('pgd', 'PGD')
    noise = error(a, b, attacked)
    yield (f'One step from a random start is as good as many (within two standard errors, '
           f'{noise:.1f} points): {said(abs(a - b) <= noise)} (fgsm_rs {a:.1f} %, pgd {b:.1f} %).')


def masking_claims(
  runs: Mapping[str, Sequence[Mapping]], transfer: Mapping[str, Sequence[float | None]],
  attacked: int,
) -> Iterator[str]:
  """Whether gradients are hidden, by four signs (Carlini et al. 2019, arXiv:1902.06705, section 3).

  Args:
    runs: as for `claims`.
    transfer: arm -> accuracy on another network's adversarial images, for each seed.
    attacked: images under PGD.
  """
  total = sum(len(seeds) for seeds in runs.values())
  tell = lambda claim, fine, of: f'{claim}: {said(fine == of)} (in {fine} of {of} networks).'
  flat = [run for seeds in runs.values() for run in seeds]
  yield tell('Stronger attacks leave less, AutoAttack <= PGD <= FGSM on the same images',
             sum(r['AutoAttack'] <= r['PGD there'] <= r['FGSM there'] for r in flat), total)
  yield tell('Noise of the same size is much weaker, less than a tenth of what PGD does',
             sum(r['clean'] - r['noise'] < 0.1 * (r['clean'] - r['PGD']) for r in flat), total)
  yield tell('At the largest radius the attack leaves less than chance, or nothing',
             sum(r['at epsilons'][-1] < 0.1 for r in flat), total)
  pairs = [(value, run['PGD']) for arm, seeds in runs.items()
           for value, run in zip(transfer[arm], seeds, strict=True) if value is not None]
  if pairs:
    yield tell(
      'Images made with another network harm no more than those made with the network itself',
      sum(100 * (own - other) <= error(100 * own, 100 * other, attacked) for other, own in pairs),
      len(pairs),
    )


def overfitting_claims(
  logs: Mapping[str, Sequence[Mapping]], radius: Mapping[str, str], fragile: Sequence[str],
) -> Iterator[str]:
  """Where a network came to withstand FGSM alone.

  Args:
    logs: arm -> what `read_metrics` says of its training, for each seed, with the probe's accuracy.
    radius: arm -> that of its training, in words.
    fragile: arms of which the paper expects it.
  """
  for arm, seeds in logs.items():
    found = [(log['probe/fgsm_accuracy'][1], log['probe/pgd_accuracy'][1]) for log in seeds]
    fell = sum(catastrophe(*pair) for pair in found)
    last = [100 * float(np.mean([pair[i][-1] for pair in found])) for i in (0, 1)]
    claim = f'{arm} ({radius[arm]}) overfits catastrophically' if arm in fragile else (
      f'{arm} ({radius[arm]}) is spared catastrophic overfitting')
    seen = fell == len(seeds) if arm in fragile else fell == 0
    yield (f'{claim}: {said(seen)} (in {fell} of {len(seeds)} runs; at last {last[0]:.0f} % of the '
           f'training images under FGSM, {last[1]:.0f} % under PGD-10).')


def catastrophe(fgsm_accuracy, pgd_accuracy) -> bool:
  """Whether FGSM is withstood only because it is fooled (Wong et al. 2020, section 5.4): PGD
  accuracy at last is less than half of its best, and less than half of that under FGSM."""
  return pgd_accuracy[-1] < 0.5 * max(pgd_accuracy) and pgd_accuracy[-1] < 0.5 * fgsm_accuracy[-1]
