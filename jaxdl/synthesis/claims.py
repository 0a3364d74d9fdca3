"""What the paper claims and the course asks of image synthesis, as sentences with our numbers.

Each sentence says whether it was seen; a miss is said as one.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jaxdl.synthesis.tasks import RESTORATIONS


class Answers(NamedTuple):
  """What the claims are about.

  Attributes:
    c: the configuration: `arms`, `eps` of each, and the options of each task.
    seeds: kind -> what the judge sees in the untouched seeds.
    cross: kind of seed -> maker -> who looks -> share.
    results: task -> arm -> numbers.
  """

  c: Any
  seeds: Mapping
  cross: Mapping
  results: Mapping

  def robust(self) -> list[str]:
    """The arms with a radius, in order."""
    return [arm for arm in self.c.arms if self.c.eps[arm] > 0]

  def plain(self) -> str | None:
    """The (first) standard one."""
    return next((arm for arm in self.c.arms if not self.c.eps[arm]), None)

  def best(self) -> str:
    """The robust arm whose images of class seeds convince the judge most."""
    of = self.results['generation']
    return max(self.robust(), key=lambda arm: judge(of[arm]['class Gaussian']))


def claims(c, stages: Mapping, results: Mapping) -> Iterator[str]:
  """All sentences.

  Args:
    c: the configuration of the study.
    stages: the results of `seeds` and `cross`.
    results: task -> arm -> numbers.
  """
  a = Answers(c, stages['seeds'], stages['cross'], results)
  yield (
    f'Does the judge know what it sees? It is right on {_untouched(a, "real"):.1f} % of the test '
    f'images, and takes {_untouched(a, "class Gaussian"):.1f} % of the untouched seeds for their '
    'class.'
  )
  if not (a.robust() and a.plain()):
    return
  for part in (_generation, _from_nothing, _convinced, _radius, _distance, _inpainting,
               _super_resolution, _blind, _translation, _binary, _sketches, _painting):
    yield from part(a)


def verdict(holds) -> str:
  """In bold."""
  return '**seen**' if holds else '**not seen**'


def judge(r) -> float:
  """The judge's agreement in per cent."""
  return 100 * r['judge']['agreement']


def _untouched(a, kind):
  return judge({'judge': a.seeds[kind]})


def _listed(arms, value, form='{:.1f} %'):
  return ', '.join(f'{arm} {form.format(value(arm))}' for arm in arms)


def _generation(a):
  made = {arm: r['class Gaussian'] for arm, r in a.results['generation'].items()}
  plain, base = a.plain(), _untouched(a, 'class Gaussian')
  yield (
    'Generation: at least 95 % of what a robust network makes of class seeds is its class to the '
    f'judge: {verdict(judge(made[a.best()]) >= 95)} '
    f'({_listed(a.robust(), lambda arm: judge(made[arm]))}).'
  )
  sure, told = 100 * made[plain]['own']['confidence'], judge(made[plain])
  yield (
    'Can the non-robust network do it? No: it is sure of its images, and the judge sees the class '
    f'in no more than 10 points more of them than of the seeds: '
    f'{verdict(sure > 95 and told < base + 10)} ({plain}: own confidence {sure:.1f} %, judge '
    f'{told:.1f} %, seeds {base:.1f} %).'
  )


def _from_nothing(a):
  for kind in ('another class', 'noise'):
    of = {arm: judge(r[kind]) for arm, r in a.results['generation'].items()}
    yield (
      f'From seeds that say nothing of the class ({kind}) robust networks make more that the judge '
      f'takes for it: {verdict(min(of[arm] for arm in a.robust()) > of[a.plain()])} '
      f'({_listed(a.c.arms, of.get)}, untouched {_untouched(a, kind):.1f} %).'
    )


def _least(a, kind):
  """Maker -> the share (%) that the other network which is convinced least takes for the class.

  The judge may be fooled by what fools another standard network, so it is not asked alone.
  """
  return {
    maker: 100 * min(share for name, share in looks.items() if name != maker)
    for maker, looks in a.cross[kind].items()
  }


def _convinced(a):
  plain = a.plain()
  for kind in ('class Gaussian', 'another class'):
    of = _least(a, kind)
    yield (
      f'From {kind} seeds, what robust networks make convinces every other network, standard or '
      'robust, more often than what the standard one makes: '
      f'{verdict(min(of[arm] for arm in a.robust()) > of[plain])} (the least convinced: '
      f'{_listed([*a.c.arms, "untouched"], of.get)}).'
    )
  noise = a.cross['noise'][plain]
  yield (
    'Is the judge fooled by what fools the standard network? What that makes of noise is its class '
    f'to the judge in {100 * noise["judge"]:.1f} %, to the robust networks in at most '
    f'{100 * max(noise[arm] for arm in a.robust()):.1f} %.'
  )


def _radius(a):
  """Training radii of 0.5 and more before smaller ones before none, by three measures."""
  made = {arm: r['class Gaussian'] for arm, r in a.results['generation'].items()}
  groups = [[arm for arm in a.c.arms if holds(a.c.eps[arm])]
            for holds in (lambda e: e >= 0.5, lambda e: 0 < e < 0.5, lambda e: not e)]
  groups = [group for group in groups if group]
  if len(groups) < 3:
    return
  least = _least(a, 'class Gaussian')
  for what, value, form in (
    ('the agreement of the judge', lambda arm: judge(made[arm]), '{:.1f} %'),
    ('the network that is convinced least', lambda arm: least[arm], '{:.1f} %'),
    ("the judge's score", lambda arm: made[arm]['judge']['score'], '{:.2f}'),
    ("the Fréchet distance of the judge's features", lambda arm: -made[arm]['frechet'], '{:.1f}'),
  ):
    pairs = zip(groups, groups[1:], strict=False)
    ranked = all(min(map(value, high)) > max(map(value, low)) for high, low in pairs)
    yield (
      f'By {what}, a training radius of 0.5 or more is better than a smaller one, and that than '
      f'none: {verdict(ranked)} ({_listed(a.c.arms, lambda arm, f=value: abs(f(arm)), form)}).'
    )


def _distance(a):
  gap = lambda arm: a.results['generation'][arm]['class Gaussian']['frechet']
  yield (
    "By the distance of the judge's features, robust images are nearer to real ones than those of "
    f'the standard network: {verdict(max(map(gap, a.robust())) < gap(a.plain()))} '
    f'({_listed(a.c.arms, gap, "{:.1f}")}, untouched seeds '
    f'{a.seeds["class Gaussian"]["frechet"]:.1f}).'
  )


def _inpainting(a):
  best, plain, of = a.best(), a.plain(), a.results['inpainting']
  cut, inside = of[best]['cut'], max(r['psnr'] for name, r in of[best].items() if name != 'cut')
  yield (
    'Inpainting: the robust network fills the square nearer to the original than the mean colour '
    f'does: {verdict(inside > cut["psnr"])} ({best}: {inside:.2f} dB at best, mean colour '
    f'{cut["psnr"]:.2f} dB).'
  )
  filled = {arm: judge(r['penalty']) for arm, r in of.items()}
  yield (
    'Inpainting: the judge finds the class again more often than in the cut images: '
    f'{verdict(filled[best] > judge(cut))} ({best} {filled[best]:.1f} %, cut {judge(cut):.1f} %, '
    f'{plain} {filled[plain]:.1f} %).'
  )


def _super_resolution(a):
  up = a.results['super_resolution'][a.best()]
  sharp = max(r['psnr'] for name in RESTORATIONS for r in up[name])
  yield (
    'Super-resolution: nearer to the original than bicubic: '
    f'{verdict(sharp > up["bicubic"]["psnr"])} (PSNR {sharp:.2f} dB at best, bicubic '
    f'{up["bicubic"]["psnr"]:.2f} dB). It need not be: it adds detail of the class, not of the '
    'original.'
  )
  told, blurred = max(judge(r) for r in up['plain']), judge(up['bicubic'])
  yield (
    'Super-resolution: the judge sees the class more often than after bicubic: '
    f'{verdict(told > blurred)} ({told:.1f} % against {blurred:.1f} %).'
  )


def _blind(a):
  """Towards the network's own guess, in place of the label that the authors' notebooks use."""
  best = a.best()
  inpainting, up = (a.results[task][best] for task in ('inpainting', 'super_resolution'))
  last = lambda name: judge(up[name][-1])
  for task, unaided, told, blind in (
    ('Inpainting', inpainting['cut'], judge(inpainting['penalty']),
     judge(inpainting['penalty, blind'])),
    ('Super-resolution', up['nearest'], last('plain'), last('plain, blind')),
  ):
    wrong = 100 - 100 * unaided['own']['agreement']
    yield (
      f'{task} without the label: towards the own guess of the network, which is wrong in '
      f'{wrong:.1f} % of the images, the judge sees the class less often: {verdict(blind < told)} '
      f'({best}: {blind:.1f} % against {told:.1f} %).'
    )


def _translation(a):
  turned = {arm: judge(r['made'][-1]) for arm, r in a.results['translation'].items()}
  yield (
    f'Translation at eps {a.c.translation.eps[-1]:g}: the judge sees the target more often in what '
    'the robust networks make: '
    f'{verdict(min(turned[arm] for arm in a.robust()) > turned[a.plain()])} '
    f'({_listed(a.c.arms, turned.get)}).'
  )


def _binary(a):
  of = a.results['binary']
  mean = {
    arm: sum(judge(r['made'][-1]) for r in found) / len(found)
    for arm in a.c.binary.arms if (found := [r for (_, maker), r in of.items() if maker == arm])
  }
  robust, standard = ([arm for arm in mean if bool(a.c.eps[arm]) is wanted]
                      for wanted in (True, False))
  if robust and standard:
    yield (
      'With a classifier of the two classes alone, as in the paper, too: '
      f'{verdict(min(mean[x] for x in robust) > max(mean[x] for x in standard))} '
      f'({_listed(mean, mean.get)}, mean over {len(of) // len(mean)} pairs).'
    )


def _sketches(a):
  of = a.results['sketching']
  after = {arm: judge(r['after']) for arm, r in of.items()}
  before = judge(of[a.best()]['before'])
  yield (
    'From sketches: the judge sees the class in more of what the robust networks draw than in the '
    f'sketches: {verdict(min(after[arm] for arm in a.robust()) > before)} '
    f'({_listed(a.c.arms, after.get)}, sketches {before:.1f} %).'
  )


def _painting(a):
  gain = {arm: judge(r['after']) - judge(r['before']) for arm, r in a.results['painting'].items()}
  yield (
    'Painting one unit: it moves the judge towards the class more with a robust network: '
    f'{verdict(min(gain[arm] for arm in a.robust()) > gain[a.plain()])} '
    f'({_listed(a.c.arms, gain.get, "{:+.1f} points")}).'
  )
