"""Where a network runs and in which precision: found once, written into run.json."""

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from fmnist.environment import physical_cores as physical_cores
from fmnist.errors import RunError

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Device:
    """A processor for tensors and the precision of its convolutions."""

    name: str  # "cpu", "cuda" or "mps"
    precision: str  # "bfloat16" or "float32"; weights and optimizer states are always float32

    @property
    def torch(self) -> torch.device:
        """PyTorch's name of the processor."""
        return torch.device(self.name)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Run what follows in this precision where PyTorch holds that to be safe."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.name, torch.bfloat16)


def find_device(name: str = "auto", precision: str | None = None) -> Device:
    """Return the processor called `name` ("auto": CUDA, then MPS, then the CPU).

    `precision` overrides what the hardware is best at. Raises RunError for a processor that this
    machine, or this build of PyTorch, does not have.
    """
    if name not in DEVICES:
        raise RunError(f"there is no device {name!r}; use one of {', '.join(DEVICES)}")
    present = [("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())]
    available = [device for device, is_there in present if is_there] + ["cpu"]
    chosen = available[0] if name == "auto" else name
    if chosen not in available:
        raise RunError(
            f"this machine offers PyTorch no {chosen}; use --device auto (it has "
            f"{', '.join(available)}), or see README for the CUDA build of PyTorch"
        )
    return Device(chosen, precision or _best_precision(chosen))


def _best_precision(device: str) -> str:
    """Return "bfloat16" where the hardware multiplies it itself, and so faster than float32."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device == "cpu" and cpu_has_bfloat16() else "float32"


def cpu_has_bfloat16() -> bool:
    """Tell whether the CPU multiplies bfloat16 itself (avx512_bf16 or AMX).

    Elsewhere PyTorch falls back to code that is 25 to 90 times slower than float32
    (github.com/pytorch/pytorch, issue 183815).
    """
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def on_device(network: nn.Module, device: Device) -> nn.Module:
    """Return the network on the device, in the memory order that convolutions run fastest in."""
    moved: nn.Module = network.to(device.torch, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


@contextlib.contextmanager
def processor_settings(threads: int) -> Iterator[None]:
    """Make what follows fast and repeatable: threads, denormals, memory, exact GPU convolutions.

    Thread count and denormals are restored after the block, the rest stays. Trained weights hold
    denormals, and arithmetic on those is 20 to 100 times slower
    (github.com/pytorch/pytorch, issues 19651 and 67797). PyTorch's worker threads take
    over the setting when they are made, so the block has to be the first to use tensors.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False  # float32 has to mean float32 where we judge
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_flush_denormal(False)


def keep_freed_memory() -> None:
    """Tell glibc's allocator to reuse freed memory instead of handing it back to the kernel.

    Each step frees all activations and asks for as many again; handed back, every page of them is
    zeroed anew, which is a third of the time of a forward pass (docs/log.md). Elsewhere than on
    glibc nothing happens.
    """
    trim_threshold, mmap_threshold = -1, -3  # parameter numbers of <malloc.h>
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(mmap_threshold, 32 * 2**20)  # the largest that glibc takes
