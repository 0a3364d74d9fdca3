"""Robust and non-robust features: can what fools a network teach another one?

Paper: Ilyas et al. 2019, Adversarial examples are not bugs, they are features (arXiv 1905.02175).
Claims: images that hold only what a robust network represents (D_R) make standard training robust;
those made with a standard network (D_NR), and images perturbed towards a class and labelled with it
(D_rand, D_det: to a human the labels are wrong), give accuracy on the original test set and no
robustness at all.

  python experiments/robust_features.py                                      # the paper's scale
  python experiments/robust_features.py --config=experiments/configs/robust_features.py:cpu
  python experiments/robust_features.py --config=experiments/configs/robust_features.py:smoke

The sets, each labelled and then learnt by a new network with standard training
  robust_image, robust_noise        D_R: matched to each image by the robust network, from another
                                    image or from noise; labelled as the image (section C.4)
  nonrobust_image, nonrobust_noise  D_NR: the same by the standard network
  rand, det                         D_rand, D_det: moved by at most eps to a random class, or to the
                                    next one, and labelled so (section C.5)
  rand_by_robust, det_by_robust     the same by the robust network
  original                          the images themselves, as many as are matched
  random_labels, random_noise       controls: random labels for the images as they are, or with
                                    random noise of norm eps

Variants
  (none)  the paper's scale with ResNet-20: whole CIFAR-10, 1,000 steps from an image and 10,000
          from noise; a GPU. Expected (judgement; the paper's network is a ResNet-50): D_rand 45-75,
          D_det 15-45, D_R 65-78 clean and 25-40 at L2 0.25.
  depth   ResNet-14, 20 and 32, two seeds: sets built by each, learnt by each.
  cpu     real CIFAR-10 on 2 cores in under an hour: ResNet-8, 4,000 to 8,000 images, few steps,
          relabelled images within 1.0 instead of 0.5. Read the orderings, not the accuracies.
  smoke   a minute, embedded digits.
"""

from ml_collections import ConfigDict


def invert(source, start, steps):
  """C.4. `fake_relu` passes gradients through dead units; a mean over positions has hardly any."""
  return {
    'kind': 'invert', 'source': source, 'start': start, 'steps': steps, 'alpha': 0.1,
    'keep_best': False, 'fake_relu': False, **LEARN,
  }


def towards(source, labels, **options):
  """C.5."""
  return {
    'kind': 'attack', 'source': source, 'labels': labels, 'eps': 0.5, 'steps': 100, 'alpha': 0.1,
    'keep_best': True, **LEARN, **options,
  }


LEARN = {'per_class': 0, 'epochs': 200.0, 'lr': 0.1, 'augment': True}  # Table 3 of the paper
SETS = {
  'robust_image': invert('robust', 'image', 1_000),
  'robust_noise': invert('robust', 'noise', 10_000),
  'nonrobust_image': invert('standard', 'image', 1_000),
  'nonrobust_noise': invert('standard', 'noise', 10_000),
  'rand': towards('standard', 'random', lr=0.01),
  'det': towards('standard', 'next', augment=False),
  'rand_by_robust': towards('robust', 'random', lr=0.01),
  'det_by_robust': towards('robust', 'next', augment=False),
  'original': {'kind': 'original', 'labels': 'own', **LEARN},
  'random_labels': {'kind': 'original', 'labels': 'random', **LEARN, 'lr': 0.01},
  'random_noise': {'kind': 'noise', 'labels': 'random', 'eps': 0.5, **LEARN, 'lr': 0.01},
}


def half_size(c):
  """Images of 16 x 16 pixels: a quarter of the work, and every radius half as long.

  A mean of four pixels moves by d where the four do, whose L2 distance is 2 d.
  """
  c.train.data.update({'shrink': 2, 'per_class': 1_000, 'test': 2_000})
  c.train.augment.update({'pad': 2, 'mode': 'reflect'})
  c.train.epochs, c.train.log, c.train.evaluate, c.train.checkpoint = 15.0, 78, 390, 390
  c.robust.epochs = 15.0
  c.robust.adversary.update({'eps': 0.25, 'steps': 3, 'alpha': 0.125})
  for name in c.sets:
    c.set[name].update({'per_class': 500, 'epochs': 20.0, 'lr': 0.1})
    if c.set[name].kind == 'attack':
      # Networks this small are smooth: within 0.25 too few images reach the other class.
      c.set[name].update({'eps': 0.5, 'steps': 20})
    elif c.set[name].kind == 'invert':
      c.set[name].update({'steps': 60, 'keep_best': True})
  for name in ('random_labels', 'random_noise'):
    c.set[name].epochs = 5.0
  c.set.random_noise.eps = 0.5


def get_config(variant=''):
  c = ConfigDict()
  c.seeds = (0, 1, 2)  # of the networks that learn the sets
  c.source_seed = 0  # of the networks that the sets are made with, and of the sets
  c.models = ('resnet20',)  # all sets are made with the first one
  c.model = ConfigDict({
    f'resnet{d}': {'name': f'resnet{d}', 'dtype': 'float32'} for d in (8, 14, 20, 32)
  })
  c.sets = tuple(SETS)
  c.cross = ()  # sets that every model makes, and every model learns from all of them
  c.set = ConfigDict(SETS)
  c.train = ConfigDict({
    'data': {
      'name': 'cifar10', 'folder': '', 'shrink': 1, 'per_class': 0, 'validation': 0, 'test': 0,
    },
    'augment': {'pad': 4, 'mode': 'constant', 'flip': True},
    'epochs': 200.0,
    'batch_size': 128,
    'optimizer': {
      'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 5e-4,
      'schedule': {'name': 'steps', 'milestones': (0.5,), 'factor': 0.1},
    },
    'log': 100, 'evaluate': 390, 'checkpoint': 2000,
  })
  c.robust = ConfigDict({  # section C.3
    'epochs': 150.0, 'lr': 0.1,
    'adversary': {
      'name': 'pgd', 'norm': 'l2', 'eps': 0.5, 'steps': 7, 'alpha': 0.1, 'random_start': False,
    },
  })
  c.chunk = 500  # images that are made at a time
  c.attack = ConfigDict({
    'eps': (0.25, 0.5, 1.0), 'steps': 20,  # of 2.5 eps / steps
    'linf': 8 / 255,  # the sources only
    'long': 500,  # steps of a longer attack at the first radius, on `own` test images; 0 for none
    'test': 10_000,  # test images that are attacked
    'own': 2_000,  # images of its own set that a network is attacked on
  })
  if variant == 'depth':
    c.models = ('resnet14', 'resnet20', 'resnet32')
    c.seeds = (0, 1)
    c.cross = ('robust_image', 'nonrobust_image', 'rand', 'det', 'original')
    c.sets = c.cross
  elif variant == 'cpu':
    c.seeds, c.models = (0, 1), ('resnet8',)
    half_size(c)
    c.attack.update({'eps': (0.125, 0.25), 'test': 1_000, 'own': 100, 'long': 200})
  elif variant == 'depth_cpu':
    c.models, c.seeds = ('resnet14', 'resnet20', 'resnet32'), (0,)
    c.cross = c.sets = ('rand',)
    half_size(c)
    c.train.data.update({'shrink': 4, 'per_class': 500})
    c.train.augment.pad = 1
    c.train.epochs, c.train.evaluate, c.train.checkpoint = 12.0, 1_000, 1_000
    c.set.rand.update({'eps': 0.25, 'alpha': 0.05, 'steps': 12, 'epochs': 8.0})
    c.attack.update({'eps': (0.0625, 0.125), 'test': 500, 'own': 100, 'long': 0, 'linf': 0.0})
  elif variant == 'smoke':
    c.seeds, c.models = (0,), ('mlp',)
    c.model = ConfigDict({'mlp': {'name': 'mlp', 'hidden': (64, 64), 'dtype': 'float32'}})
    c.sets = (
      'robust_image', 'nonrobust_noise', 'rand', 'det', 'det_by_robust', 'original', 'random_noise',
    )
    c.train.data.name, c.train.data.per_class, c.train.data.test = 'digits', 60, 200
    c.train.augment = {'pad': 1, 'mode': 'constant', 'flip': False}
    c.train.epochs, c.train.batch_size, c.train.optimizer.lr = 10.0, 50, 0.05
    c.train.log, c.train.evaluate, c.train.checkpoint = 20, 30, 30
    c.robust.update({'epochs': 10.0, 'lr': 0.05})
    c.robust.adversary.update({'steps': 2, 'alpha': 0.3})
    for name in c.sets:
      c.set[name].update({'epochs': 6.0, 'lr': 0.05})
      if 'steps' in c.set[name]:
        c.set[name].update({'steps': 15, 'alpha': 0.2})
      if 'eps' in c.set[name]:
        c.set[name].eps = 1.5
    c.set.nonrobust_noise.fake_relu = True
    c.chunk = 200
    c.attack.update({'eps': (0.25, 0.5), 'steps': 4, 'test': 50, 'own': 50, 'long': 12})
  elif variant:
    raise ValueError(f"Unknown variant {variant!r}: choose '', 'depth', 'cpu' or 'smoke'.")
  return c
