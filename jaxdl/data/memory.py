"""Whether a set fits into memory, asked before it is read."""

from pathlib import Path

_MEMINFO = Path('/proc/meminfo')


def require(needed: int, what: str) -> None:
  """Raises ValueError if `needed` bytes are more than this machine has free (where it says so)."""
  free = _free()
  if free is not None and needed > free:
    raise ValueError(
      f'{what} needs {needed / 1e9:,.1f} GB of memory and {free / 1e9:,.1f} GB are free; use a '
      'smaller set, or a machine with more memory.'
    )


def _free() -> int | None:
  if not _MEMINFO.exists():
    return None
  lines = (line.split() for line in _MEMINFO.read_text().splitlines())
  return 1024 * {line[0]: int(line[1]) for line in lines}['MemAvailable:']
