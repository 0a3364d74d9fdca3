"""The attacks of PyTorch's libraries at work, on the same network and images as `jax_attacks`."""

import torch
import torch.nn.functional as F

from jaxdl.benchmark import victim as victims
from jaxdl.benchmark.torch_networks import with_weights
from jaxdl.benchmark.torch_set_up import LAYOUTS, autocast, facts, finish, to_device, use_device
from jaxdl.benchmark.work import Work


def pgd(
  victim, batch_size, dtype='float32', layout='NHWC', steps=10, eps=8 / 255, alpha=2 / 255,
  compiled=False, library='',
) -> Work:
  """PGD in an L-infinity ball, from one random start, the last image kept; no gradient of the
  weights is taken.

  Args:
    victim: path of a `jaxdl.benchmark.victim.Victim`.
    batch_size: its first images, attacked together.
    dtype, layout, compiled: as of `torch_contenders.train`.
    steps, eps, alpha: of the attack.
    library: 'foolbox' or 'torchattacks': its attack instead of the loop written here.
  """
  device = use_device()
  v = victims.load(victim, batch_size)
  network = with_weights(v).to(device, memory_format=LAYOUTS[layout])
  forward = torch.compile(network) if compiled else network
  x0, y = to_device(v.images, v.labels, device, layout)
  version = {}
  if library:
    attack, version['version'] = LIBRARIES[library](forward, eps, alpha, steps)
  else:
    attack = lambda x, y: _loop(forward, x, y, device, dtype, steps, eps, alpha)

  def run(n):
    for _ in range(n):
      x = attack(x0, y)
    finish(device)
    return x

  x = run(1)
  with torch.no_grad():
    before, after = network(x0), network(x)
  right = lambda z: float((z.argmax(-1) == y).double().mean())
  strength = {'clean': right(before), 'robust': right(after),
              'loss under attack': float(F.cross_entropy(after, y))}
  return Work(run, batch_size, {**facts(device), **version, **strength})


def _loop(forward, x0, y, device, dtype, steps, eps, alpha):
  x = (x0 + torch.empty_like(x0).uniform_(-eps, eps)).clamp_(0, 1)
  for _ in range(steps):
    x.requires_grad_(True)
    with autocast(device, dtype):
      loss = F.cross_entropy(forward(x), y, reduction='sum')
    (gradient,) = torch.autograd.grad(loss, x)
    with torch.no_grad():
      x = x.detach() + alpha * gradient.sign()
      x = torch.clamp(torch.min(torch.max(x, x0 - eps), x0 + eps), 0, 1)
  return x


def _foolbox(network, eps, alpha, steps):
  import foolbox

  model = foolbox.PyTorchModel(network, bounds=(0, 1))
  attack = foolbox.attacks.LinfPGD(abs_stepsize=alpha, steps=steps, random_start=True)
  # Its run() alone: calling the attack also classifies the result, which the others do not do.
  run = lambda x, y: attack.run(model, x, foolbox.criteria.Misclassification(y), epsilon=eps)
  return run, f'foolbox {foolbox.__version__}'


def _torchattacks(network, eps, alpha, steps):
  import torchattacks

  attack = torchattacks.PGD(network, eps=eps, alpha=alpha, steps=steps, random_start=True)
  return attack, f'torchattacks {torchattacks.__version__}'


LIBRARIES = {'foolbox': _foolbox, 'torchattacks': _torchattacks}


def robustness(
  victim, images, eps=8 / 255, queries=5000, only=(), library='autoattack'
) -> Work:
  """AutoAttack, standard.

  In NCHW: it takes views of images that a channels_last tensor does not have.

  Args:
    victim, images, eps, queries, only: as of `jax_attacks.robustness`.
    library: 'autoattack', that of its authors, or 'torchattacks', which has no `queries` and runs
      all attacks.
  """
  device = use_device()
  v = victims.load(victim, images)
  network = with_weights(v).to(device)
  x, y = to_device(v.images, v.labels, device, 'NCHW')
  attack, version = SUITES[library](network, eps, queries, only, device)
  told = {**facts(device), **version}

  def run(n):
    for _ in range(n):
      moved = attack(x, y)
    finish(device)
    with torch.no_grad():
      clean, survives = (network(images).argmax(-1) == y for images in (x, moved))
    told.update(clean=float(clean.double().mean()), robust=float(survives.double().mean()),
                survives=survives.tolist())

  return Work(run, images, told)


def _authors(network, eps, queries, only, device):
  import autoattack

  suite = autoattack.AutoAttack(
    network, norm='Linf', eps=eps, seed=0, verbose=False, device=device.type
  )
  suite.square.n_queries = queries
  suite.attacks_to_run = list(only) or suite.attacks_to_run
  return lambda x, y: suite.run_standard_evaluation(x, y, bs=len(x)), {}


def _suite_of_torchattacks(network, eps, queries, only, device):
  import torchattacks

  if only or queries != 5000:
    raise ValueError("torchattacks' AutoAttack has 5000 queries and runs all attacks.")
  classes = network.head.out_features
  suite = torchattacks.AutoAttack(network, norm='Linf', eps=eps, n_classes=classes, seed=0)
  return suite, {'version': f'torchattacks {torchattacks.__version__}'}


SUITES = {'autoattack': _authors, 'torchattacks': _suite_of_torchattacks}
CONTENDERS = {'pgd': pgd, 'robustness': robustness}
