"""Networks by name.

Every network is a Flax module called as `module(x, train=False) -> (logits, features)`: x float
[B, H, W, C], already normalised; logits float32 [B, K]; features a dict of named arrays whose
'pooled' entry, float32 [B, D], is what the last linear layer, 'head', reads.
"""

from collections.abc import Callable, Mapping
from functools import partial

import flax.linen as nn

from jaxdl.layers import lq
from jaxdl.models.airbench import Airbench
from jaxdl.models.convolution import behind_first
from jaxdl.models.densenet import DenseNet
from jaxdl.models.early_exits import EarlyExits
from jaxdl.models.mlp import MLP
from jaxdl.models.nin import NIN
from jaxdl.models.resnet import cifar_resnet, imagenet_resnet
from jaxdl.models.vgg import STAGES as VGG_STAGES
from jaxdl.models.vgg import VGG
from jaxdl.models.vgg_small import VGGSmall
from jaxdl.models.wide_resnet import preact_resnet, wide_resnet
from jaxdl.options import check_flags, check_mapping, check_name, check_number

WRN_SIZES = ((10, 1), (10, 2), (16, 1), (16, 2), (16, 4), (16, 8), (22, 2), (28, 2), (28, 4))
WRN_SIZES += ((28, 10), (34, 10), (40, 1), (40, 2), (40, 4), (70, 16))

DENSENET_SIZES = ((10, 12), (16, 12), (22, 12), (40, 12), (100, 12), (250, 24), (190, 40))

# name -> (num_classes, **kwargs) -> module
MODELS: dict[str, Callable[..., nn.Module]] = {
  'mlp': MLP,
  'airbench': Airbench,
  **{f'nin{b}': partial(NIN, blocks=b) for b in (3, 4, 5)},
  **{f'resnet{d}': partial(cifar_resnet, d) for d in (8, 14, 20, 32, 44, 56, 110)},
  **{f'resnet{d}': partial(imagenet_resnet, d) for d in (18, 34, 50, 101, 152)},
  **{f'preact_resnet{d}': partial(preact_resnet, d) for d in (18, 34)},
  **{f'wrn{d}_{k}': partial(wide_resnet, depth=d, widening=k) for d, k in WRN_SIZES},
  **{f'densenet{d}_{k}': partial(DenseNet, depth=d, growth=k) for d, k in DENSENET_SIZES},
  **{f'vgg{d}_bn': partial(VGG, depth=d) for d in VGG_STAGES},
  'vgg_small': VGGSmall,
}
_LIMITS = {
  'width': {'least': 1 / 16}, 'dropout': {'least': 0, 'below': 1},
  'input_dropout': {'least': 0, 'below': 1}, 'scale': {'above': 0},
  'compression': {'above': 0, 'most': 1},
}
_WIDTHS = {'hidden', 'widths'}


def create(
  name: str, num_classes: int, *, exits: bool = False, quantization: Mapping | None = None, **kwargs
) -> nn.Module:
  """Makes the network called `name`.

  Args:
    name: a key of `MODELS`.
    num_classes: K, the width of the logits.
    exits: a classifier after each section, see `EarlyExits`.
    quantization: arguments of `jaxdl.layers.lq.quantized_conv`: all convolutions but the first (of
      an MLP, all hidden layers but the first) compute with quantised weights and inputs. None for
      float.
    **kwargs: fields of the network (dtype, norm_axis, shortcut, stem, width, dropout, ...).

  Raises:
    ValueError: an unknown name (the message suggests a near one and lists all), an option that this
      network does not have, or one whose value is out of range.
  """
  check_name('model', name, MODELS)
  check_flags(f'the model {name!r}', {'exits': exits}, 'exits')
  for option, limits in _LIMITS.items():
    if option in kwargs:
      check_number(f'The option {option!r} of the model {name!r}', kwargs[option], **limits)
  for option in _WIDTHS & kwargs.keys():
    for width in kwargs[option] if isinstance(kwargs[option], list | tuple) else [kwargs[option]]:
      check_number(f'Each of the option {option!r} of the model {name!r}', width, 1, whole=True)
  if quantization:
    check_mapping(f'The option quantization of the model {name!r}', quantization)
    if MODELS[name] is MLP:
      _check_layers(name, kwargs.get('hidden', MLP.hidden))
      kwargs['dense'] = lq.quantized_dense(**quantization)
    else:
      kwargs['conv'] = behind_first(lq.quantized_conv(**quantization))
  factory = MODELS[name]
  given = kwargs.keys() & getattr(factory, 'keywords', {}).keys()  # by the name already
  try:
    if given:
      raise TypeError(f'multiple values for {min(given)!r}')
    network = factory(num_classes, **kwargs)
  except TypeError as error:
    if 'unexpected keyword argument' not in str(error) and 'multiple values' not in str(error):
      raise
    option = str(error).rpartition(' ')[2]
    raise ValueError(
      f'The model {name!r} has no option {option}; remove it, or choose another model.'
    ) from error
  return EarlyExits(network) if exits else network


def _check_layers(name, hidden):
  if len(hidden) < 2:
    raise ValueError(f'The first hidden layer of the model {name!r} stays in float, and it has no '
                     'other to quantise: give it at least two, or leave out its quantization.')
