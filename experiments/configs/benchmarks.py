"""Speed, measured as ratios between programs that take turns on one machine.

Claim: on a CPU and on a GPU the library's training step, inference and attacks keep up with
PyTorch's; what it adds (loops in one program, SAM, augmentation, data on the device) costs what
its arithmetic costs; a command starts in seconds. Each target is an entry of `targets` below and
comes out as met or missed. Absolute times hold for one machine, ratios for many.

  python experiments/benchmarks.py                                           # a GPU
  python experiments/benchmarks.py --config=experiments/configs/benchmarks.py:cpu
  python experiments/benchmarks.py --config=experiments/configs/benchmarks.py:attacks \
      --config.victim=runs/adversarial_training-cpu/pgd-0
  python experiments/benchmarks.py --config=experiments/configs/benchmarks.py:smoke

Attacks of all libraries meet the same weights and images. `victim` is the folder of a trained CIFAR
ResNet, whose test images AutoAttack gets; without it, that is the network that this study trains.
AutoAttack of its authors takes part where `import autoattack` works (its repository on the
PYTHONPATH), others where they are installed.

Variants
  (none)  a GPU: bfloat16, batches of 512, PyTorch channels_last and compiled.
  cpu     2 cores: float32, ResNet-20 and ResNet-18; about 20 minutes for the first 15 comparisons
          on a machine that does nothing else. What is installed of PyTorch and TensorFlow takes
          part.
  attacks 2 cores: PGD-10 against other libraries, training against PGD, AutoAttack and each of its
          parts on 200 images. Trains its own ResNet-20 against FGSM-RS.
  smoke   a minute: tiny networks, JAX only; the numbers mean nothing.
"""

from ml_collections import ConfigDict

RESNET20 = {'model': {'name': 'resnet20'}, 'batch_size': 128}
RESNET18 = {'model': {'name': 'resnet18'}, 'batch_size': 64}
MLP = {'model': {'name': 'mlp', 'hidden': (256, 256)}, 'batch_size': 64, 'image': (28, 28, 1)}
LAYOUTS = ('torch channels_last', 'torch NCHW')
PEERS = ('foolbox', 'torchattacks')
METRICS = ('ood_metrics', 'scikit-learn')
AUTOATTACK = ('AutoAttack', 'AutoAttack, reference', 'AutoAttack, torchattacks')
PARTS = ('apgd-ce', 'apgd-t', 'fab-t', 'square')
TRAINING = ('SGD', '7 input gradients and SGD', 'PGD-7 training')
ARITHMETIC = ((TRAINING[2], TRAINING[0], '<=', 8.0), (TRAINING[2], TRAINING[1], '<=', 1.15))
ATTACK = (
  *(('jaxdl', peer, '>=', 1.0) for peer in PEERS), ('jaxdl', 'its gradients', '<=', 1.15),
)
COMPRESSED = ('float', 'LQ 2/32', 'LQ 2/2', 'LQ 3/3', 'DoReFa 2/2', 'LSQ 2/2', 'mask',
              'teacher, cached', 'teacher, every step')
OVERHEADS = (
  ('LQ 2/2', 'float', '<=', 1.6), ('mask', 'float', '<=', 1.05),
  ('teacher, cached', 'float', '<=', 1.1),
)
AUGMENTED = ('no augmentation', 'crop and flip', 'cutout', 'mixup', 'CutMix', 'RandAugment',
             'AugMix', 'SimCLR, one view')
LIGHT = tuple((name, AUGMENTED[0], '<=', 1.05) for name in AUGMENTED[1:] if name != 'AugMix')
VIEWS = ('two views', 'two views, dm-pix', 'two views, tf.image')
FASTER = tuple((VIEWS[0], other, '>=', 1.0) for other in VIEWS[1:])
CONTRAST = ('SimCLR', 'SimCLR, views given', 'supervised, 2 B images')
TWO_PASSES = ((CONTRAST[1], CONTRAST[2], '<=', 1.1), (CONTRAST[0], CONTRAST[2], '<=', 1.3))
SEEDS = ('one seed after the other', 'seeds mapped', 'seeds vmapped')


def get_config(variant=''):
  c = ConfigDict()
  c.victim = ''  # folder of a trained ResNet; none: the one trained here
  c.train = ConfigDict({  # a whole run through the loop, as every study makes it
    'data': {'name': 'shapes'},
    'model': {'name': 'resnet20', 'dtype': 'float32'},
    'augment': {'pad': 4, 'mode': 'constant', 'flip': True},
    'epochs': 3.0, 'batch_size': 128,
    'optimizer': {'name': 'sgd', 'lr': 0.05, 'momentum': 0.9, 'weight_decay': 5e-4},
    'log': 10, 'evaluate': 0, 'checkpoint': 40,
  }, convert_dict=True)
  # Commands timed from their process's start; first_step: options of experiments/classify.py.
  c.start = ConfigDict({
    'repeats': 5, 'imports': ('jax', 'jaxdl.core', 'jaxdl.train.classifier'), 'help': True,
    'first_step': (
      '--config.train.data.name=shapes', '--config.train.model.name=resnet20',
      '--config.train.batch_size=128', '--config.train.log=1',
    ),
    'targets': {'warm start to the first step': 4.0, '--help': 3.0},
  })
  if variant == '':
    c.train.model.name = 'resnet18'
    c.comparisons = _gpu()
  elif variant == 'cpu':
    c.comparisons = _cpu()
  elif variant == 'attacks':
    c.train.adversary = {'name': 'fgsm_rs', 'norm': 'linf', 'eps': 8 / 255, 'alpha': 10 / 255}
    c.start.repeats, c.start.imports, c.start.help, c.start.first_step = 1, ('jax',), False, ()
    c.comparisons = _attacks()
  elif variant == 'smoke':
    c.train.data.name = 'digits'
    c.train.model = {'name': 'mlp', 'dtype': 'float32'}
    c.train.augment = None
    c.train.epochs, c.train.log, c.train.checkpoint = 4.0, 10, 20
    c.start.repeats, c.start.imports, c.start.first_step = 1, ('jaxdl.core',), ()
    c.comparisons = _smoke()
  else:
    raise ValueError(f"Unknown variant {variant!r}: choose '', 'cpu', 'attacks' or 'smoke'.")
  return c


def _comparison(work, options, contenders, reference, rounds, units, targets=(), equal=(),
                limit=900.0):
  """One table.

  Args:
    work: 'train', 'seeds', 'predict', 'pgd', 'robustness', 'input', 'views' or 'ood_metrics': what
      the contenders do.
    options: of that work, the same for all; `victim`: 'own' (the network trained here) or 'given'.
    contenders: names, see `CONTENDERS` in the experiment.
    reference: the one others are divided by.
    rounds: turns of each.
    units: of work in a turn.
    targets: (contender, other, '>=' speed ratio or '<=' time ratio, number).
    equal: two contenders that must end with the same weights.
    limit: seconds that one turn may take.
  """
  return {
    'work': work, 'options': options, 'contenders': contenders, 'reference': reference,
    'rounds': rounds, 'units': units, 'targets': targets, 'equal': equal, 'limit': limit,
  }


def _cpu():
  train = (('jaxdl', LAYOUTS[0], '>=', 0.7), ('jaxdl', LAYOUTS[1], '>=', 1.0))
  arms = ('jaxdl', 'jaxdl, 1 device', 'stock JAX', *LAYOUTS)
  small = {**RESNET20, 'examples': 10_000}
  return ConfigDict({
    'train_resnet20': _comparison(
      'train', RESNET20, (*arms, 'jaxdl bfloat16', 'torch bfloat16'), LAYOUTS[0], 12, 3, train),
    'train_resnet18': _comparison('train', RESNET18, arms, LAYOUTS[0], 5, 1, train),
    'inference_resnet20': _comparison(
      'predict', RESNET20, (*arms[:4], 'torch frozen', 'jaxdl bfloat16', 'torch bfloat16'),
      LAYOUTS[0], 12, 10, (('jaxdl', LAYOUTS[0], '>=', 0.8),)),
    'inference_resnet18': _comparison(
      'predict', RESNET18, (*arms[:4], 'torch frozen'), LAYOUTS[0], 6, 3,
      (('jaxdl', LAYOUTS[0], '>=', 0.8),)),
    'scan': _comparison(
      'train', {**RESNET20, 'calls': 4}, ('loop', 'scan'), 'loop', 6, 1,
      (('scan', 'loop', '>=', 0.9),), ('scan', 'loop')),
    'sam': _comparison(
      'train', RESNET20, ('SGD', 'SAM', 'ASAM'), 'SGD', 10, 2, (('SAM', 'SGD', '<=', 2.1),)),
    'pgd10': _comparison(
      'pgd', {'victim': 'own', 'batch_size': 128}, (*arms[:4], *PEERS, 'its gradients'),
      LAYOUTS[0], 6, 1, (('jaxdl', LAYOUTS[0], '>=', 1.0), *ATTACK)),
    'pgd_training': _comparison('train', RESNET20, TRAINING, 'SGD', 5, 1, ARITHMETIC),
    'compression': _comparison('train', RESNET20, COMPRESSED, 'float', 8, 2, OVERHEADS),
    'seeds_resnet20': _comparison('seeds', {**RESNET20, 'batch_size': 64}, SEEDS, SEEDS[0], 5, 1),
    'seeds_mlp': _comparison('seeds', MLP, SEEDS, SEEDS[0], 8, 100),
    'augmentation': _comparison(
      'train', RESNET20, AUGMENTED, AUGMENTED[0], 10, 3, LIGHT),
    'two_views': _comparison('views', {'batch_size': 128}, VIEWS, VIEWS[2], 8, 10, FASTER),
    'input_alone': _comparison(
      'input', {'batch_size': 128}, ('resident', 'tf.data', 'DataLoader', 'DataLoader, 2 workers'),
      'resident', 8, 40),
    'input_of_a_step': _comparison(
      'train', small, ('fixed batch', 'resident', 'tf.data'), 'fixed batch', 8, 6),
    'input_of_a_torch_step': _comparison(
      'train', small, ('torch, fixed batch', 'DataLoader', 'DataLoader, 2 workers'),
      'torch, fixed batch', 8, 6),
    'simclr': _comparison('step', RESNET20, CONTRAST, CONTRAST[2], 8, 2, TWO_PASSES),
    # A million scores; to take less than 2 s is 500,000 of them in a second.
    'ood_metrics': _comparison(
      'ood_metrics', {'scores': 1_000_000}, METRICS, METRICS[1], 8, 1, ((*METRICS, '>=', 1.0),)),
  })


def _attacks():
  """Every part of AutoAttack alone, too: on all images that are classified rightly."""
  robustness = lambda contenders, **more: _comparison(
    'robustness', {'victim': 'given', 'images': 200, 'queries': 5000, **more}, contenders,
    AUTOATTACK[1], 1, 1,
    tuple((AUTOATTACK[0], other, '>=', 1.0) for other in contenders[1:]), limit=7200.0,
  )
  cpu = _cpu()
  return ConfigDict({
    'apgd_ce': robustness(AUTOATTACK[:2], only=(PARTS[0],)),
    'autoattack': robustness(AUTOATTACK),
    **{part.replace('-', '_'): robustness(AUTOATTACK[:2], only=(part,)) for part in PARTS[1:]},
    **{name: cpu[name] for name in ('pgd10', 'pgd_training')},
  })


def _gpu():
  eighteen = {'model': {'name': 'resnet18'}, 'batch_size': 512, 'dtype': 'bfloat16'}
  twenty = {'model': {'name': 'resnet20'}, 'batch_size': 512, 'dtype': 'bfloat16'}
  arms = ('jaxdl', 'torch channels_last', 'torch compiled')
  best = (('jaxdl', 'torch compiled', '>=', 1.0),)
  small = {**eighteen, 'examples': 50_000}
  return ConfigDict({
    'train_resnet18': _comparison('train', eighteen, arms, arms[2], 20, 20, best),
    'train_resnet20': _comparison('train', twenty, arms, arms[2], 20, 20, best),
    'inference_resnet18': _comparison('predict', eighteen, arms, arms[2], 20, 20, best),
    'inference_resnet20': _comparison('predict', twenty, arms, arms[2], 20, 20, best),
    'scan': _comparison(
      'train', {**twenty, 'calls': 8}, ('loop', 'scan'), 'loop', 20, 4,
      (('scan', 'loop', '>=', 0.9),), ('scan', 'loop')),
    'sam': _comparison(
      'train', eighteen, ('SGD', 'SAM', 'ASAM'), 'SGD', 20, 10, (('SAM', 'SGD', '<=', 2.1),)),
    'pgd10': _comparison(
      'pgd', {'victim': 'own', 'batch_size': 500, 'dtype': 'bfloat16'},
      (*arms, *PEERS, 'its gradients'), arms[2], 20, 4, (*best, *ATTACK)),
    'autoattack': _comparison(
      'robustness', {'victim': 'given', 'images': 500}, AUTOATTACK, AUTOATTACK[1], 1, 1,
      tuple((AUTOATTACK[0], other, '>=', 1.0) for other in AUTOATTACK[1:])),
    'pgd_training': _comparison('train', eighteen, TRAINING, 'SGD', 20, 4, ARITHMETIC),
    'compression': _comparison('train', twenty, COMPRESSED, 'float', 20, 10, OVERHEADS),
    'seeds_resnet20': _comparison('seeds', twenty, SEEDS, SEEDS[0], 10, 10),
    'seeds_mlp': _comparison('seeds', MLP, SEEDS, SEEDS[0], 10, 500),
    'augmentation': _comparison(
      'train', eighteen, AUGMENTED, AUGMENTED[0], 20, 20, LIGHT),
    'two_views': _comparison('views', {'batch_size': 512}, VIEWS, VIEWS[2], 10, 20, FASTER),
    'simclr': _comparison('step', eighteen, CONTRAST, CONTRAST[2], 20, 10, TWO_PASSES),
    'input_alone': _comparison(
      'input', {'batch_size': 512}, ('resident', 'tf.data', 'DataLoader', 'DataLoader, 2 workers'),
      'resident', 10, 20),
    'input_of_a_step': _comparison(
      'train', small, ('fixed batch', 'resident', 'tf.data'), 'fixed batch', 10, 20),
    'input_of_a_torch_step': _comparison(
      'train', small, ('torch, fixed batch', 'DataLoader', 'DataLoader, 2 workers'),
      'torch, fixed batch', 10, 20),
    # A million scores; to take less than 2 s is 500,000 of them in a second.
    'ood_metrics': _comparison(
      'ood_metrics', {'scores': 1_000_000}, METRICS, METRICS[1], 8, 1, ((*METRICS, '>=', 1.0),)),
  })


def _smoke():
  tiny = {'model': {'name': 'resnet8', 'width': 0.25}, 'batch_size': 8, 'image': (8, 8, 3)}
  return ConfigDict({
    'train': _comparison(
      'train', tiny, ('jaxdl', 'stock JAX'), 'stock JAX', 2, 2,
      (('jaxdl', 'stock JAX', '>=', 0.0),)),
    'scan': _comparison(
      'train', {**tiny, 'calls': 2}, ('loop', 'scan'), 'loop', 2, 1,
      (('scan', 'loop', '>=', 0.0),), ('scan', 'loop')),
    'pgd': _comparison(
      'pgd', {'victim': 'own', 'batch_size': 8, 'steps': 2}, ('jaxdl', 'its gradients'), 'jaxdl',
      2, 1, (('jaxdl', 'its gradients', '<=', 100.0),)),
  })
