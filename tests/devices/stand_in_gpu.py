"""A stand-in for a GPU: tensors that say `gpu:0` and compute on the CPU, so that what a device demands can be tested.

Operations that mix devices fail, as on a GPU. Every operation is counted where it was called from: kernels, waits of
the host for the device, and bytes moved. Numbers are the CPU's, so results can be compared to the bit. It stands on
private API of torch 2.13. Import it before the harness, in a process of its own: it puts
`torch.no_grad` in the place of `torch.inference_mode`, whose tensors such a device cannot make.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as tree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend


class Backend(_DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


# `gpu:0` is served by autograd with a thread of its own, as CUDA is.
_setup_privateuseone_for_python_backend("gpu", backend_module=Backend())
torch.inference_mode = lambda mode=True: torch.no_grad() if mode else contextlib.nullcontext()  # type: ignore[misc]

GPU = torch.device("gpu:0")
RUN = threading.Thread.run
ROOT = f"{Path(__file__).parents[2]}/"
PACKAGES = tuple(f"{ROOT}{package}/" for package in ("harness", "baselines", "etegrec"))
aten = torch.ops.aten

COPIES = {aten._to_copy.default, aten.copy_.default}  # may read one device and write the other
WAITS = {  # the host must know a number of the device before it can go on
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.masked_select.default,
    aten.equal.default,
}
VIEWS = {  # no kernel: another look at the same memory
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "unsqueeze", "squeeze", "slice", "select", "split",
    "split_with_sizes", "unbind", "detach", "alias", "as_strided", "_reshape_alias", "chunk", "diagonal", "narrow",
    "empty", "empty_like", "new_empty", "empty_strided", "lift_fresh", "view_as_complex", "view_as_real", "unfold",
}  # fmt: skip


class OnGpu(torch.Tensor):
    """A tensor of the stand-in; `inner` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnGpu:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=GPU,
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, *_: Any) -> Any:
        raise RuntimeError(f"{function} was called outside of the stand-in")

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert gpu:0 device type tensor to numpy; use Tensor.cpu() first")


class StandInGpu(TorchDispatchMode):
    """While it is entered, tensors can be made on `gpu:0`, and what is done with them is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()  # by call site
        self.waits: Counter[str] = Counter()
        self.moved: Counter[str] = Counter()  # bytes between the devices
        self.ahead: Counter[str] = Counter()  # of them, what threads of Python's move
        self.low: Counter[str] = Counter()  # kernels that compute with bf16, casts apart

    def __enter__(self) -> StandInGpu:
        torch._C._set_only_lift_cpu_tensors(True)
        threading.Thread.run = lambda thread: self._run(thread)  # type: ignore[method-assign]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(False)
        threading.Thread.run = RUN  # type: ignore[method-assign]
        super().__exit__(*error)

    def _run(self, thread: threading.Thread) -> None:
        """Runs a thread of Python's, to which the device is there too, as it is in the thread that started it."""
        with InThread(self):
            RUN(thread)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = dict(kwargs or {})
        tensors = [leaf for leaf in tree.tree_leaves((args, keywords)) if isinstance(leaf, torch.Tensor)]
        ours = {id(tensor.inner): tensor for tensor in tensors if isinstance(tensor, OnGpu)}
        if ours and function not in COPIES:
            _refuse_mixed(function, tensors)
        wanted = keywords.get("device")
        is_on_gpu = bool(ours) if wanted is None else torch.device(wanted).type == "gpu"
        if wanted is not None and is_on_gpu:
            keywords["device"] = torch.device("cpu")
        if bool(ours) or is_on_gpu:
            self._count(function, args, keywords, is_on_gpu)
        result = function(*tree.tree_map(_inner, args), **tree.tree_map(_inner, keywords))
        if function is aten.copy_.default:
            return args[0]
        return tree.tree_map(lambda leaf: _wrapped(leaf, ours), result) if is_on_gpu else result

    def _count(self, function: Any, args: Any, keywords: Any, is_on_gpu: bool) -> None:
        """Of what touches the device: a wait, bytes that move, or a kernel."""
        name = function.overloadpacket.__name__
        site = call_site()
        if function in WAITS:
            self.waits[site] += 1
        if function in COPIES:
            source = args[1] if function is aten.copy_.default else args[0]
            target_is_gpu = isinstance(args[0], OnGpu) if function is aten.copy_.default else is_on_gpu
            if isinstance(source, OnGpu) != target_is_gpu:
                self.moved[site] += source.numel() * source.element_size()
                if threading.current_thread() is not threading.main_thread():
                    self.ahead[site] += source.numel() * source.element_size()
                does_not_wait = target_is_gpu and (keywords.get("non_blocking") or args[2:3] == (True,))
                self.waits[site] += not does_not_wait
                return
        self.kernels[site] += name not in VIEWS
        if function not in COPIES and name not in VIEWS and is_low(args):
            self.low[site] += 1


def is_low(parts: Any) -> bool:
    """Whether there is a tensor of the stand-in in bf16 among the parts."""
    return any(isinstance(leaf, OnGpu) and leaf.dtype == torch.bfloat16 for leaf in tree.tree_leaves(parts))


class InThread(TorchDispatchMode):
    """The stand-in in another thread: a mode holds for the thread that entered it."""

    def __init__(self, gpu: StandInGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.gpu.__torch_dispatch__(function, types, args, kwargs)


def call_site() -> str:
    """`path:line` of the innermost frame of the project; `backward` where autograd's own thread calls."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGES):
            return f"{frame.f_code.co_filename.removeprefix(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "backward"


def _refuse_mixed(function: Any, tensors: list[torch.Tensor]) -> None:
    """A CPU tensor may meet the device's as a number alone, never as an index."""
    indexes = "index" in function.__name__
    for tensor in tensors:
        if not isinstance(tensor, OnGpu) and (tensor.dim() or indexes):
            raise RuntimeError(f"{function}: expected all tensors on gpu:0, but one of {[*tensor.shape]} is on cpu")


def _inner(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, OnGpu) else leaf


def _wrapped(leaf: Any, ours: dict[int, OnGpu]) -> Any:
    """A result's tensor on the device; one that was given stays the same object."""
    if not isinstance(leaf, torch.Tensor):
        return leaf
    return ours[id(leaf)] if id(leaf) in ours else OnGpu(leaf)
