"""jaxdl: deep-learning papers as pure functions, one command each."""

__version__ = '0.1.0'
