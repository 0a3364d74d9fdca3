"""Speed measured as ratios: contenders in processes of their own, taking turns."""

from jaxdl.benchmark.compare import Contender, Ratio, compare, ratio, summary

__all__ = ['Contender', 'Ratio', 'compare', 'ratio', 'summary']
