"""Losses: arrays -> [B], never a mean, so that weights and masks stay the caller's business."""

from jaxdl.losses.classification import correct, cross_entropy

__all__ = ['correct', 'cross_entropy']
