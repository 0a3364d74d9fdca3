"""Adversarial training: PGD, TRADES, fast FGSM and Free, with weight perturbation and averaging.

Papers: Madry et al. 2018 (arXiv 1706.06083, PGD), Zhang et al. 2019 (arXiv 1901.08573, TRADES),
Wong et al. 2020 (arXiv 2001.03994, FGSM with a random start, and its catastrophic overfitting),
Shafahi et al. 2019 (arXiv 1904.12843, Free), Wu et al. 2020 (arXiv 2004.05884, AWP).
Claim: a network trained on the worst images of a ball keeps much of its accuracy under attack,
where standard training keeps none; one step from a random start is nearly as good as many.

  python experiments/adversarial_training.py                                # the papers' scale
  CONFIG=experiments/configs/adversarial_training.py
  python experiments/adversarial_training.py --config=$CONFIG:cpu

Variants
  (none)    PreActResNet-18, whole CIFAR-10, L-infinity 8/255; a GPU, some hours.
            Expected (Wong et al., table 5): FGSM-RS 86.06 % clean and 46.06 % under PGD, PGD-7
            87.30 and 45.80, Free 85.96 and 46.33.
  resnet20  the same with ResNet-20, whose capacity is what limits it.
  cpu       real CIFAR-10 on 2 cores in under an hour: ResNet-8, 10,000 images, 6 epochs, three
            ascent steps. Small: read the orderings, not the accuracies.
  small     what each part does, on images of 16 x 16 pixels: AWP, SAM and averaging each alone, two
            seeds.
  overfit   where one step overfits catastrophically: MNIST of 14 x 14 pixels, eps 0.3, a start at
            the image itself, or steps of 2 eps.
  smoke     a minute, embedded digits.
"""

from ml_collections import ConfigDict

EPS = 8 / 255


def arm(adversary=None, epochs=1.0, perturbation=None, ema=None):
  """`epochs` multiplies those of the study."""
  return {'adversary': adversary, 'epochs': epochs, 'perturbation': perturbation, 'ema': ema}


def pgd(steps, alpha, **options):
  return {'name': 'pgd', 'eps': EPS, 'steps': steps, 'alpha': alpha, **options}


def brief(c, eps=None):
  """Every arm for one pass of the study's epochs, with three ascent steps where it had many.

  Args:
    c: changed in place.
    eps: radius for all, or None for each its own.
  """
  for arm in c.arm.values():
    arm.epochs = 1.0
    if arm.adversary:
      arm.adversary.eps = eps or arm.adversary.eps
      if arm.adversary.get('steps', 1) > 1:
        arm.adversary.update({'steps': 3, 'alpha': arm.adversary.eps / 2})


def get_config(variant=''):
  c = ConfigDict()
  c.seeds = (0, 1, 2)
  c.seed_axis = 'off'
  c.norm, c.eps = 'linf', EPS  # of the evaluation
  awp = {'name': 'sam', 'norm': 'layer', 'rho': 5e-3}
  c.arm = ConfigDict({
    'standard': arm(),
    'fgsm': arm(pgd(1, EPS, random_start=False)),
    'fgsm_rs': arm({'name': 'fgsm_rs', 'eps': EPS, 'alpha': 10 / 255}),
    'free': arm({'name': 'free', 'eps': EPS, 'replays': 8}, epochs=96 / 30),
    'pgd': arm(pgd(7, 2 / 255), epochs=40 / 30),
    'trades': arm({'name': 'trades', 'eps': EPS, 'steps': 10, 'alpha': 2 / 255, 'beta': 6.0},
                  epochs=40 / 30),
    'pgd_awp_ema': arm(pgd(7, 2 / 255), epochs=40 / 30, perturbation=awp, ema=0.999),
    'pgd_awp': arm(pgd(7, 2 / 255), epochs=40 / 30, perturbation=awp),
    'pgd_ema': arm(pgd(7, 2 / 255), epochs=40 / 30, ema=0.999),
    'pgd_sam': arm(pgd(7, 2 / 255), epochs=40 / 30, perturbation={'name': 'sam', 'rho': 0.05}),
    'fgsm_rs_far': arm({'name': 'fgsm_rs', 'eps': EPS, 'alpha': 2 * EPS}),  # too long a step
  })
  c.surrogate = 'pgd'  # the arm whose adversarial images the others are shown too
  c.fragile = ('fgsm',)  # arms of which Wong et al., section 5.4, expect catastrophic overfitting
  c.arms = ('standard', 'fgsm', 'fgsm_rs', 'free', 'pgd', 'trades', 'pgd_awp_ema')
  c.train = ConfigDict({
    'data': {'name': 'cifar10', 'folder': '', 'per_class': 0, 'validation': 0, 'test': 0},
    'model': {'name': 'preact_resnet18', 'dtype': 'float32'},
    'augment': {'pad': 4, 'mode': 'constant', 'flip': True},
    'epochs': 30.0, 'batch_size': 128,
    'optimizer': {
      'name': 'sgd', 'lr': 0.2, 'momentum': 0.9, 'weight_decay': 5e-4,
      'schedule': {'name': 'cyclic', 'warmup': 0.4},
    },
    'log': 100, 'evaluate': 1955, 'checkpoint': 1955,
  })
  c.probe = 1_000  # training images of the check for catastrophic overfitting
  c.evaluation = ConfigDict({
    'images': 10_000,  # test images of the gradient attacks
    'steps': 20, 'alpha': 2 / 255, 'restarts': 1,
    'autoattack': 1_000, 'autoattack_batch': 250, 'queries': 5_000,
    'epsilons': (0.0, 2 / 255, 4 / 255, 8 / 255, 12 / 255, 16 / 255, 32 / 255),
    'shown': 8,
  })
  if variant == 'resnet20':
    c.train.model.name = 'resnet20'
  elif variant == 'cpu':
    c.seeds, c.fragile = (0,), ()
    c.train.data.per_class = 1_000
    c.train.model.name = 'resnet8'
    c.train.epochs = 6.0
    c.train.batch_size, c.train.optimizer.lr = 64, 0.1
    c.train.augment.pad = 2
    c.train.log, c.train.evaluate, c.train.checkpoint = 78, 312, 312
    c.probe = 200
    brief(c)
    c.arm.pgd_awp_ema.ema = c.arm.pgd_ema.ema = 0.98
    c.arm.free.adversary.replays, c.arm.free.epochs = 4, 2.0
    c.evaluation.update({
      'images': 1_000, 'autoattack': 160, 'autoattack_batch': 80, 'queries': 1_000,
    })
  elif variant == 'small':
    c.seeds, c.fragile = (0, 1), ()
    c.arms = ('standard', 'fgsm_rs', 'pgd', 'trades', 'pgd_ema', 'pgd_awp', 'pgd_sam')
    c.train.data.update({'shrink': 2, 'per_class': 500, 'test': 2_000})
    c.train.model.name = 'resnet8'
    c.train.epochs, c.train.batch_size, c.train.optimizer.lr = 10.0, 64, 0.1
    c.train.augment.update({'pad': 2, 'mode': 'reflect'})
    c.train.log, c.train.evaluate, c.train.checkpoint = 71, 71, 355
    c.probe = 200
    brief(c)
    c.arm.pgd_awp_ema.ema = c.arm.pgd_ema.ema = 0.98
    c.evaluation.update({
      'images': 1_000, 'autoattack': 160, 'autoattack_batch': 80, 'queries': 1_000,
    })
  elif variant == 'overfit':
    c.seeds, c.eps, c.fragile = (0, 1), 0.3, ('fgsm', 'fgsm_rs_far')
    c.arms = ('fgsm', 'fgsm_rs', 'fgsm_rs_far', 'pgd')
    c.train.data.update({'name': 'mnist', 'shrink': 2, 'per_class': 200, 'test': 2_000})
    c.train.model.name, c.train.augment = 'resnet8', None
    c.train.epochs, c.train.batch_size, c.train.optimizer.lr = 10.0, 50, 0.05
    c.train.log, c.train.evaluate, c.train.checkpoint = 40, 20, 200
    c.probe = 200
    brief(c, c.eps)
    for name, alpha in (('fgsm', 1.0), ('fgsm_rs', 1.25), ('fgsm_rs_far', 2.0)):
      c.arm[name].adversary.alpha = alpha * c.eps
    c.evaluation.update({
      'images': 500, 'alpha': 0.1 * c.eps, 'autoattack': 80, 'autoattack_batch': 80,
      'queries': 500, 'epsilons': (0.0, 0.1, 0.2, 0.3, 0.4, 0.6),
    })
  elif variant == 'smoke':
    c.seeds = (0,)
    c.eps, c.fragile = 0.1, ()
    c.arms = ('standard', 'fgsm_rs', 'pgd', 'free', 'pgd_awp_ema')
    brief(c, 0.1)
    c.arm.fgsm_rs.adversary.alpha = 0.125
    c.arm.free.adversary.replays = 2
    c.arm.pgd_awp_ema.ema = 0.9
    c.train.data.name, c.train.data.per_class = 'digits', 60
    c.train.model = {'name': 'mlp', 'hidden': (64, 64), 'dtype': 'float32'}
    c.train.augment = None
    c.train.epochs, c.train.batch_size, c.train.optimizer.lr = 8.0, 50, 0.1
    c.train.log, c.train.evaluate, c.train.checkpoint = 12, 48, 48
    c.probe = 100
    c.evaluation.update({
      'images': 100, 'steps': 5, 'alpha': 0.04, 'autoattack': 20, 'autoattack_batch': 20,
      'queries': 30, 'epsilons': (0.0, 0.05, 0.1, 0.5), 'shown': 4,
    })
  elif variant:
    raise ValueError(
      f"Unknown variant {variant!r}: choose '', 'resnet20', 'cpu', 'small', 'overfit' or 'smoke'."
    )
  return c
