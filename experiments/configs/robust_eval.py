"""How robust is this classifier really? Attacks one by one, AutoAttack, and signs of masking.

Papers: Croce and Hein 2020 (arXiv 2003.01690, AutoAttack), Carlini et al. 2019 (arXiv 1902.06705,
how to evaluate). Claim: one attack with one step size overstates robustness; several that set their
own, one of them without gradients, and some checks, do not.

  python experiments/robust_eval.py --config.checkpoint=RUN
  python experiments/robust_eval.py --config.checkpoint=RUN --config.against=OTHER_RUN
  python experiments/robust_eval.py --config=experiments/configs/robust_eval.py:cpu
  python experiments/robust_eval.py --config=experiments/configs/robust_eval.py:smoke

RUN is the folder of one trained classifier of any study, such as
runs/adversarial_training/pgd-0. With OTHER_RUN, a classifier of the same images, attacks are also
transferred between the two. Without RUN the study trains a standard and a robust network first. For
the L2 ball: --config.norm=l2 --config.eps=0.5.

Variants
  (none)  the standard evaluation on 10,000 CIFAR-10 images, L-infinity 8/255; a GPU. Networks of
          its own: PreActResNet-18, 30 epochs, standard and FGSM-RS. Expected (Wong et al. 2020, by
          AutoAttack's authors): 83.34 % clean, 46.06 % under PGD, 43.21 % under AutoAttack.
  cpu     real CIFAR-10 on 2 cores (not timed yet): ResNet-8 on 10,000 images; 500 test
          images, 200 for AutoAttack. Small: read the orderings.
  smoke   a minute, embedded digits.
"""

from ml_collections import ConfigDict

EPS = 8 / 255


def get_config(variant=''):
  c = ConfigDict()
  c.checkpoint = ''  # folder of a trained classifier; none: train the two below
  c.against = ''  # another one, of the same images
  c.norm, c.eps = 'linf', EPS
  c.seed = 0
  c.attacks = ConfigDict({
    'images': 10_000,  # test images, the first ones
    'steps': 20, 'alpha': 2 / 255, 'restarts': 5,
    'epsilons': (0.0, 2 / 255, 4 / 255, 6 / 255, 8 / 255, 12 / 255, 16 / 255, 32 / 255),
    'counts': (1, 5, 20, 50, 100),  # steps of PGD from one start
    'shown': 8,
  })
  c.distances = {'images': 1_000, 'cw_steps': 1_000, 'binary_steps': 9, 'deepfool_steps': 50}
  c.autoattack = {
    'images': 10_000, 'version': 'standard', 'batch': 500, 'steps': 100, 'queries': 5_000,
  }
  c.train = ConfigDict({  # of the networks of its own
    'data': {'name': 'cifar10', 'folder': '', 'per_class': 0, 'test': 0},
    'model': {'name': 'preact_resnet18', 'dtype': 'float32'},
    'augment': {'pad': 4, 'mode': 'constant', 'flip': True},
    'epochs': 30.0, 'batch_size': 128,
    'optimizer': {
      'name': 'sgd', 'lr': 0.2, 'momentum': 0.9, 'weight_decay': 5e-4,
      'schedule': {'name': 'cyclic', 'warmup': 0.4},
    },
    'log': 100, 'evaluate': 1955, 'checkpoint': 1955,
  })
  c.adversary = {'name': 'fgsm_rs', 'norm': 'linf', 'eps': EPS, 'alpha': 10 / 255}
  if variant == 'cpu':
    c.train.data.per_class = 1_000
    c.train.model.name = 'resnet8'
    c.train.epochs, c.train.batch_size, c.train.optimizer.lr = 8.0, 64, 0.1
    c.train.augment.pad = 2
    c.train.log, c.train.evaluate, c.train.checkpoint = 78, 312, 312
    c.attacks.update({
      'images': 500, 'restarts': 2,
      'epsilons': (0.0, 2 / 255, 4 / 255, 8 / 255, 16 / 255, 32 / 255),
      'counts': (1, 5, 20, 50),
    })
    c.distances = {'images': 100, 'cw_steps': 200, 'binary_steps': 5, 'deepfool_steps': 50}
    c.autoattack.update({'images': 200, 'batch': 100})
  elif variant == 'smoke':
    c.eps = 0.1
    c.train.data.name, c.train.data.per_class = 'digits', 60
    c.train.model = {'name': 'mlp', 'hidden': (64, 64), 'dtype': 'float32'}
    c.train.augment = None
    c.train.epochs, c.train.batch_size, c.train.optimizer.lr = 8.0, 50, 0.1
    c.train.log, c.train.evaluate, c.train.checkpoint = 12, 48, 48
    c.adversary.update({'eps': 0.1, 'alpha': 0.125})
    c.attacks.update({
      'images': 100, 'steps': 6, 'alpha': 0.04, 'restarts': 2, 'epsilons': (0.0, 0.05, 0.1, 0.4),
      'counts': (1, 6), 'shown': 4,
    })
    c.distances = {'images': 20, 'cw_steps': 60, 'binary_steps': 6, 'deepfool_steps': 20}
    c.autoattack.update({'images': 40, 'batch': 2, 'steps': 20, 'queries': 100})
  elif variant:
    raise ValueError(f"Unknown variant {variant!r}: choose '', 'cpu' or 'smoke'.")
  return c
