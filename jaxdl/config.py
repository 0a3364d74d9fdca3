"""Config files and their overrides, checked before the flags are parsed."""

import ast
import inspect
import pathlib
import re
import runpy
from collections.abc import Sequence

from ml_collections import ConfigDict

from jaxdl.options import check_name

_KINDS = {
  int: ('a whole number such as 1', int),
  float: ('a number such as 0.5', float),
  ConfigDict: ("a mapping such as {'name': 'sgd'}", lambda text: dict(ast.literal_eval(text))),
}


def config_argument(arguments: Sequence[str]) -> str | None:
  """The value of the last `--config=FILE[:variant]` (or `--config FILE`) of a command line."""
  found = None
  for argument, following in zip(arguments, [*arguments[1:], ''], strict=True):
    name, equals, value = argument.partition('=')
    if name in ('-config', '--config'):
      found = value if equals else following
  return found


def load_config(argument: str, default: str) -> ConfigDict:
  """Loads FILE[:variant] and checks that it is a config of the same study as the default file.

  Raises:
    ValueError: no such file, not Python, without `get_config`, an unknown variant, or without the
      values that the default has. An error of the file's own code is raised as it is.
  """
  file, *variant = argument.split(':', 1)
  if not pathlib.Path(file).is_file():
    raise ValueError(f'There is no config file {file!r}; give one as --config=FILE[:variant], such '
                     f'as {default}.')
  try:
    get_config = runpy.run_path(file).get('get_config')
  except (SyntaxError, ImportError, UnicodeDecodeError) as error:
    where = f'line {error.lineno}: {error.msg}' if isinstance(error, SyntaxError) else error
    raise ValueError(f'The config file {file} cannot be loaded ({where}); correct it.') from error
  if not callable(get_config):
    raise ValueError(f'The config file {file} has no function get_config(variant).')
  if variant and not inspect.signature(get_config).parameters:
    raise ValueError(f"The config file {file} has no variants; leave out ':{variant[0]}'.")
  try:
    config = get_config(*variant)
  except ValueError as error:
    raise ValueError(str(error)) from error
  if not isinstance(config, ConfigDict):
    raise ValueError(f'get_config() in {file} must return a ConfigDict, not {config!r:.40}.')
  if pathlib.Path(file).resolve() != pathlib.Path(default).resolve():
    missing = [key for key in runpy.run_path(default)['get_config']() if key not in config]
    if missing:
      raise ValueError(f'{file} is no config of this study: it lacks {", ".join(missing)}; see '
                       f'{default}.')
  return config


def check_overrides(config: ConfigDict, arguments: Sequence[str]) -> None:
  """Checks that every `--config.key=value` has a key of the config and a value of its type.

  Raises:
    ValueError: naming the key, with the nearest one, or the value.
  """
  for argument in arguments:
    match = re.fullmatch(r'--?(?:no)?config\.([^=\[]*)(?:\[.*?\])?(?:=(.*))?', argument, re.DOTALL)
    if match:
      _check_override(config, *match.groups())


def _check_override(config, path, value):
  here, prefix = config, ''
  for key in path.split('.'):
    if not isinstance(here, ConfigDict):
      raise ValueError(f'The config value {prefix[:-1]!r} is {here!r}, which has no {key!r}.')
    check_name('config value', f'{prefix}{key}', [f'{prefix}{k}' for k in here])
    holder, here, prefix = here, here[key], f'{prefix}{key}.'
  kind = holder.get_type(key)
  if kind is type(None):
    raise ValueError(f'The config value {path!r} is None and can only be set in a config file.')
  if value is not None and kind in _KINDS:
    noun, parse = _KINDS[kind]
    try:
      parse(value)
    except (ValueError, TypeError, SyntaxError):
      raise ValueError(f'The config value {path!r} must be {noun}, got {value!r}.') from None
