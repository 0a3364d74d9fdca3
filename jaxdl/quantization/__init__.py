"""Quantisation of weights."""

from jaxdl.quantization.uniform import quantize, quantize_params

__all__ = ['quantize', 'quantize_params']
