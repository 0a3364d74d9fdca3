"""Refuses misspelt names and values out of range, with a sentence that names the remedy."""

import difflib
import math
import numbers
import operator
from collections.abc import Collection, Mapping

_HOLDS = {
  'at least': operator.ge, 'above': operator.gt, 'at most': operator.le, 'below': operator.lt,
}


def check_name(what: str, name: str, allowed: Collection[str]) -> None:
  """Raises ValueError unless `name` is one of `allowed`."""
  if not isinstance(name, str) or name not in allowed:
    near = nearest(name, allowed)
    hint = f' Did you mean {near!r}?' if near else ''
    raise ValueError(f'Unknown {what} {name!r}.{hint} Choose one of: {", ".join(allowed)}.')


def check_names(what: str, names, allowed: Collection[str]) -> None:
  """Raises ValueError unless `names` is a list of different ones of `allowed`, at least one."""
  if not isinstance(names, list | tuple) or not names:
    raise ValueError(f'{what} must be a list of at least one name, got {names!r}.')
  for name in names:
    check_name(f'name in {what}', name, allowed)
  _check_once(what, names)


def check_mapping(what: str, options) -> None:
  """Raises ValueError unless `options` is a mapping."""
  if not hasattr(options, 'keys'):
    raise ValueError(f"{what} must be a mapping such as {{'name': ...}}, got {options!r}.")


def check_keys(what: str, options: Mapping, allowed: Collection[str]) -> None:
  """Raises ValueError unless `options` is a mapping whose keys are all in `allowed`."""
  check_mapping(what, options)
  for key in options:
    check_name(f'key of {what}', key, allowed)


def check_number(
  what: str, value, least=None, most=None, *, above=None, below=None, whole: bool = False
) -> None:
  """Raises ValueError unless `value` is a finite number within the bounds that are given.

  Args:
    what: how the sentence calls it.
    value: anything; a bool is no number.
    least, most: bounds that are allowed values themselves.
    above, below: bounds that are not.
    whole: only integers.
  """
  bounds = {'at least': least, 'above': above, 'at most': most, 'below': below}
  bounds = {words: bound for words, bound in bounds.items() if bound is not None}
  kind = numbers.Integral if whole else numbers.Real
  number = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
  if not number or not all(_HOLDS[words](value, bound) for words, bound in bounds.items()):
    limits = ' and '.join(f'{words} {bound}' for words, bound in bounds.items())
    noun = 'a whole number' if whole else 'a number'
    raise ValueError(f'{what} must be {noun}{limits and ", " + limits}, got {value!r}.')


def check_numbers(what: str, values, *bounds, **limits) -> None:
  """Raises ValueError unless `values` is a list of at least one number, see `check_number`."""
  if not isinstance(values, list | tuple) or not values:
    raise ValueError(f'{what} must be a list of at least one number, got {values!r}.')
  for value in values:
    check_number(f'Each of {what}', value, *bounds, **limits)


def check_flags(what: str, options: Mapping, *keys: str) -> None:
  """Raises ValueError if one of these options is given and neither True nor False."""
  for key in keys:
    if not isinstance(options.get(key, False), bool):
      raise ValueError(f'{key} of {what} must be True or False, got {options[key]!r}.')


def check_seeds(seeds) -> None:
  """Raises ValueError unless `seeds` are different whole numbers that JAX takes, at least one."""
  check_numbers('seeds', seeds, 0, 2**32 - 1, whole=True)
  _check_once('seeds', seeds)


def _check_once(what, values):
  for i, value in enumerate(values):
    if value in values[:i]:
      raise ValueError(f'{what} has {value!r} more than once; give it once.')


def nearest(name, allowed: Collection[str]) -> str | None:
  """The allowed name most like the given one, if one is like it."""
  names = {allowed_name.lower(): allowed_name for allowed_name in allowed}
  close = difflib.get_close_matches(str(name).lower(), names, n=1)
  return names[close[0]] if close else None
