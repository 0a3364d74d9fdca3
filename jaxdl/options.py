"""Refuses misspelt names and keys, with a suggestion."""

import difflib
from collections.abc import Collection


def check_name(what: str, name: str, allowed: Collection[str]) -> None:
  """Raises ValueError unless `name` is one of `allowed`."""
  if name not in allowed:
    close = difflib.get_close_matches(str(name), allowed, n=1)
    hint = f' Did you mean {close[0]!r}?' if close else ''
    raise ValueError(f'Unknown {what} {name!r}.{hint} Choose one of: {", ".join(allowed)}.')


def check_keys(what: str, keys: Collection[str], allowed: Collection[str]) -> None:
  """Raises ValueError if one of `keys` is not in `allowed`."""
  for key in keys:
    check_name(f'key of {what}', key, allowed)
