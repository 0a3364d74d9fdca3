"""What PyTorch contenders begin with: the device, and the order of a tensor's axes in memory."""

import functools
import os

import torch

LAYOUTS = {'NHWC': torch.channels_last, 'NCHW': torch.contiguous_format}


def use_device() -> torch.device:
  """The GPU, else the CPU with a thread on every core that this process may use."""
  if torch.cuda.is_available():
    torch.backends.cudnn.benchmark = True
    return torch.device('cuda')
  torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity')
                        else os.cpu_count())
  return torch.device('cpu')


def finish(device) -> None:
  """Waits for what was started."""
  if device.type == 'cuda':
    torch.cuda.synchronize()


def autocast(device, dtype: str):
  return torch.autocast(device.type, torch.bfloat16, enabled=dtype == 'bfloat16')


def to_device(images, labels, device, layout: str):
  """uint8 [B, H, W, C] and int [B], NumPy -> float [B, C, H, W] in [0, 1] and int64 [B]."""
  x = (torch.from_numpy(images).to(torch.float32) / 255).permute(0, 3, 1, 2)
  x = x.to(device).contiguous(memory_format=LAYOUTS[layout])
  return x, torch.from_numpy(labels).to(device, torch.int64)


@functools.lru_cache
def _name(device):
  return torch.cuda.get_device_name() if device.type == 'cuda' else 'cpu'


def facts(device) -> dict:
  return {'version': f'torch {torch.__version__}', 'device': _name(device)}
