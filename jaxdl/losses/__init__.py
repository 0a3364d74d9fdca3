"""Losses: arrays -> [B], never a mean, so that weights and masks stay the caller's business."""

from jaxdl.losses.classification import confidence_penalty, correct, cross_entropy
from jaxdl.losses.contrastive import negative_cosine, nt_xent
from jaxdl.losses.distillation import attention_transfer, distillation, dkd, hint, teacher_free

__all__ = [
  'attention_transfer', 'confidence_penalty', 'correct', 'cross_entropy', 'distillation', 'dkd',
  'hint', 'negative_cosine', 'nt_xent', 'teacher_free',
]
