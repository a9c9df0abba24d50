"""Where rows are decoded and where they end up, in the words of `decompressed`."""

from __future__ import annotations

import importlib
import re
from typing import Any, NamedTuple

from .._cvc import devices
from .._errors import ArgumentError, DeviceError

# What `decompressed` calls its backends. Its pure Python one and its C++ one are the processor, both of its GPU ones a
# card.
_OF_UPSTREAM = {"python": "cpu", "cpp": "cpu", "cuda": "cuda", "triton": "cuda"}
_FRAMEWORKS = ("torch", "cupy")


class MissingPackageError(DeviceError, ModuleNotFoundError):
    """Rows were to become arrays of a package that is not installed."""


class Target(NamedTuple):
    """A checked answer to: who decodes, and whose arrays are wanted."""

    device: str
    """`cpu`, `cuda` or `cuda:N`."""
    framework: str
    """`torch` or `cupy`; says nothing on the processor."""
    backend: str
    """What `Array.read` calls the backend."""

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"

    def read(self, array: Any, rows: Any = None, **options: Any) -> Any:
        """Rows of a `cvc.Array`: a NumPy array, or one of the framework on the device."""
        if self.on_cpu:
            return array.read(rows, backend=self.backend, **options)
        return self.adopt(array.read(rows, device=self.device, **options))

    def adopt(self, memory: Any) -> Any:
        """An array of the framework over memory of the device, which is not copied."""
        return importlib.import_module(self.framework).from_dlpack(memory)

    def moved(self, values: Any) -> Any:
        """A NumPy array, or a copy of it on the device."""
        if self.on_cpu:
            return values
        framework = importlib.import_module(self.framework)
        if self.framework == "torch":
            return framework.from_numpy(values).to(self.device)
        with framework.cuda.Device(int(self.device.partition(":")[2] or 0)):
            return framework.asarray(values)


def target(device: Any, framework: str, backend: str) -> Target:
    """What the arguments of a call ask for.

    Raises `ArgumentError` for names that do not exist or do not go together, `DeviceError` where a device or a package
    is not to be had. Nothing is taken instead of what was asked for.
    """
    device = str(device)
    decoder = _OF_UPSTREAM.get(backend, backend)
    if decoder != "auto" and not re.fullmatch(r"cpu|(cuda|wgpu)(:.+)?", decoder):
        raise ArgumentError(
            f"backend = {backend!r}: one of auto, python, cpp, cuda, triton is needed, or one that Array.read takes"
        )
    if device == "cpu":
        return Target("cpu", framework, "cpu" if decoder == "auto" else decoder)
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise ArgumentError(f"device = {device!r}: cpu, cuda or cuda:N is needed")
    if decoder != "auto" and not decoder.startswith("cuda"):
        raise ArgumentError(
            f"backend = {backend!r} decodes to memory of the processor: it needs device='cpu', not {device!r}"
        )
    if framework not in _FRAMEWORKS:
        raise ArgumentError(f"Unsupported framework: {framework!r}; arrays on a device are those of torch or cupy")
    problem = _problem_of_cuda()
    if problem is not None:
        raise DeviceError(f"device {device} is not available: {problem}")
    try:
        importlib.import_module(framework)
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"device = {device!r} gives arrays of {framework}, which is not installed: {error}"
        ) from None
    return Target(device, framework, decoder)


def _problem_of_cuda() -> str | None:
    """Why there is no card, if there is none."""
    cards = [report for report in devices() if report["backend"] == "cuda"]
    if any(card["available"] for card in cards):
        return None
    return "; ".join(str(card["reason"]) for card in cards) or "this build of cvc has no CUDA backend"


def get_available_backends() -> dict[str, bool]:
    """Which of the backends of `decompressed` can be asked for: `python`, `cpp`, `cuda`, `triton`.

    `python` and `cpp` are the processor, always there; `cuda` and `triton` are the first card of NVIDIA.
    """
    return {name: error is None for name, error in get_backend_errors().items()}


def get_backend_errors() -> dict[str, str | None]:
    """Why a backend of `get_available_backends` is not there, or `None` for one that is."""
    problem = _problem_of_cuda()
    return {name: None if kind == "cpu" else problem for name, kind in _OF_UPSTREAM.items()}
