"""Settings every test runs under. They must be in place before JAX starts."""

import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
if 'xla_force_host_platform_device_count' not in os.environ.get('XLA_FLAGS', ''):
  flags = os.environ.get('XLA_FLAGS', '')
  os.environ['XLA_FLAGS'] = f'{flags} --xla_force_host_platform_device_count=4'.strip()
os.environ.setdefault('MPLBACKEND', 'Agg')
os.environ.setdefault('JAXDL_TENSORBOARD', '0')  # TensorFlow takes seconds to import

from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import jax  # noqa: E402

from jaxdl import cpu  # noqa: E402

if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  home = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
  jax.config.update('jax_compilation_cache_dir', str(home / 'jaxdl' / 'xla'))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)

hypothesis.settings.register_profile('jaxdl', derandomize=True, deadline=None)
hypothesis.settings.load_profile('jaxdl')

cpu.install()
