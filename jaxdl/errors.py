"""Exit codes, and which errors are a sentence for the user rather than a bug to be traced."""

import errno
import pathlib
import sys
import traceback

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
_PACKAGE = pathlib.Path(__file__).resolve().parent


def exit_code(error: Exception) -> int | None:
  """The exit code of an error whose message is all a user needs; None for a bug.

  A ValueError counts where a `raise` statement of this package, or of the program that is run, made
  it: one out of NumPy or JAX is a bug of ours. An OSError names its file and always counts.
  """
  if isinstance(error, OSError):
    return EXIT_FAILED if error.errno in (errno.ENOSPC, errno.EDQUOT) else EXIT_BAD_INPUT
  if not isinstance(error, ValueError):
    return None
  last = traceback.extract_tb(error.__traceback__)[-1]
  ours = (_PACKAGE, pathlib.Path(sys.argv[0]).resolve().parent)
  inside = {*ours} & {*pathlib.Path(last.filename).resolve().parents}
  return EXIT_BAD_INPUT if inside and last.line.startswith('raise') else None
