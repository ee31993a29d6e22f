"""Kernels with two faces: an array definition in Python and, in a .cu file beside it, a twin of the same name.

The body of a decorated function *is* the definition. It runs on NumPy arrays, and on CuPy arrays where there is no twin. The twin,
written in the dialect of `lanes.cuh`, is compiled by NVRTC for CuPy arrays (backend `cuda`) or by the system's C++ compiler for NumPy
arrays (backend `native`). The C structs of Params, State, Actions, Shocks and Rewards are generated from their Python declarations,
in declaration order, so no list of arguments is written twice.
"""
from __future__ import annotations

import contextlib
import contextvars
import ctypes
import dataclasses
import functools
import hashlib
import inspect
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from kernels.core.arrays import DTYPES, on_device, shape, sizes

HERE = Path(__file__).parent
REAL = {np.dtype("f4"): "float", np.dtype("f8"): "double"}
C_TYPE = {"i16": "short", "i32": "i32", "i64": "i64", "u8": "u8", "f32": "float", "real": "real"}
CLASSES = {"p": "Params", "s": "State", "a": "Actions", "e": "Shocks", "r": "Rewards"}
LANES = 128  # threads of one block on a GPU
NVRTC = ("-std=c++17", "-fmad=false")  # no fused multiply-add: + - * / sqrt round as they do on a CPU
HOST = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared", "-pthread")

_backend: contextvars.ContextVar[str] = contextvars.ContextVar("backend", default="numpy")


class BackendError(RuntimeError):
    """A backend was asked for that this machine cannot offer; the text says what is missing."""


@contextlib.contextmanager
def use(backend: str) -> Iterator[None]:
    """Within the block kernels called on NumPy arrays run as `numpy` (the definition) or `native` (the compiled twin)."""
    if backend not in ("numpy", "native"):
        raise ValueError(f"backend must be numpy or native, got {backend!r}")
    token = _backend.set(backend)
    try:
        yield
    finally:
        _backend.reset(token)


def in_use() -> str:
    """The backend of NumPy arrays here: numpy, or native within `use("native")`."""
    return _backend.get()


def kernel(source: str) -> Callable[[Callable[..., None]], Kernel]:
    """Pair the decorated definition with the function of the same name in `source`, a .cu file beside the definition's."""
    return lambda definition: functools.wraps(definition)(Kernel(definition, source))  # type: ignore[return-value]


class Kernel:
    """A definition and its twin. Called like the definition; which of the two runs depends on the arrays and on `use`."""

    __wrapped__: Callable[..., None]

    def __init__(self, definition: Callable[..., None], source: str):
        self.definition = definition
        self.name = definition.__name__
        self.source = Path(inspect.getfile(definition)).parent / source
        self.arguments = tuple(inspect.signature(definition).parameters)

    @property
    def model(self) -> ModuleType:
        """The module that declares Params, State, ... of this kernel."""
        return sys.modules[self.definition.__module__]

    def __call__(self, *args: Any) -> None:
        if on_device(_first_array(args)):
            self.launch(args)
        elif _backend.get() == "native":
            self.run_native(args)
        else:
            self.definition(*args)

    def launch(self, args: tuple) -> None:
        """Run the twin on the GPU, one block per replica, on CuPy's current stream."""
        length, real = _key(self, args)
        entry = _cuda_function(self, _code(self, length, real))
        entry((_replicas(args),), (LANES,), tuple(_pack(self, args, length, real)))

    def run_native(self, args: tuple, lanes: int = 1, flags: tuple[str, ...] = HOST) -> None:
        """Run the twin on the CPU. `lanes` > 1 needs -DTHREADS among the flags and is for tests."""
        length, real = _key(self, args)
        entry = _host_function(self, length, real, flags)
        entry(_replicas(args), lanes, *(ctypes.c_void_p(struct.ctypes.data) for struct in _pack(self, args, length, real)))

    def code(self, args: tuple) -> str:
        """The complete C++ text for these arguments, for every compiler: dialect, generated structs, the twin's file, one entry point."""
        return _code(self, *_key(self, args))


def _arrays(args: tuple) -> Iterator[Any]:
    """All arrays of the arguments; a NumPy scalar among Params is a number."""
    return (value for arg in args for value in vars(arg).values() if getattr(value, "ndim", 0))


@functools.lru_cache(maxsize=256)
def _reals(cls: Any) -> tuple[str, ...]:
    """Fields of working precision."""
    return tuple(f.name for f in dataclasses.fields(cls) if f.metadata.get("dtype") == "real")


def _first_array(args: tuple) -> Any:
    return next(_arrays(args))


def _replicas(args: tuple) -> int:
    return _first_array(args).shape[0]


def _key(kernel: Kernel, args: tuple) -> tuple[_Sizes, np.dtype]:
    """What a compilation depends on: the parameters' sizes and the working precision."""
    real = {array.dtype for arg in args for name in _reals(type(arg))  # type: ignore[arg-type]
            if (array := getattr(arg, name)).dtype.kind == "f"}
    if len(real) != 1 or not real <= REAL.keys():
        raise TypeError(f"{kernel.name}: use float32 or float64 throughout, got {sorted(map(str, real))}")
    p = args[kernel.arguments.index("p")] if "p" in kernel.arguments else None
    return _Sizes(kernel.model, p), real.pop()


class _Sizes:
    """Parameters reduced to what the generated text depends on: lengths of axes and tuples."""

    __slots__ = ("p", "key")

    def __init__(self, model: ModuleType, p: Any):
        self.p = p
        self.key = _shape_of(tuple(model.AXES.values()), p)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sizes) and self.key == other.key


@functools.lru_cache(maxsize=256)
def _shape_of(lengths: tuple[str, ...], p: Any) -> tuple:
    tuples = tuple(len(value) for value in vars(p).values() if isinstance(value, tuple))
    return tuple(getattr(p, name) for name in lengths), tuples


@functools.lru_cache(maxsize=256)
def _code(kernel: Kernel, length: _Sizes, real: np.dtype) -> str:
    model, p = kernel.model, length.p
    axes = sizes(model, p)
    text = [f"#define REAL {REAL[real]}", (HERE / "lanes.cuh").read_text()]
    text += [f"constexpr i32 {axis} = {n};" for axis, n in axes.items()]
    text += [_struct_text(getattr(model, name), letter, p, axes) for letter, name in CLASSES.items()]
    text += [kernel.source.read_text(), _entry_text(kernel)]
    return "\n".join(text)


def _struct_text(cls: type, letter: str, p: Any, axes: dict[str, int]) -> str:
    if letter == "p":
        numbers = []
        for f in dataclasses.fields(cls):
            value = getattr(p, f.name)
            numbers.append(f"{'i32' if _whole(f) else 'real'} {f.name}{f'[{len(value) or 1}]' if isinstance(value, tuple) else ''};")
        return f"struct {cls.__name__} {{ {' '.join(numbers)} }};"
    fields = dataclasses.fields(cls)
    members = " ".join(f"{C_TYPE[f.metadata['dtype']]} *{f.name};" for f in fields) or "u8 nothing;"
    moved = ", ".join(f"{f.name} + replica * {int(np.prod(shape(f, axes, 1)))}L" for f in fields) or "0"
    return f"struct {cls.__name__} {{ {members} MEMBER {cls.__name__} at(i64 replica) const {{ return {{{moved}}}; }} }};"


def _whole(field: dataclasses.Field) -> bool:
    """Whether a Param is an integer, or a tuple of them, in C. Its default decides: crra=1 is as real as crra=0.1."""
    kinds = field.default if isinstance(field.default, tuple) and field.default else (field.default,)
    return all(isinstance(value, int) for value in kinds)


def _entry_text(kernel: Kernel) -> str:
    kinds = [CLASSES[name] for name in kernel.arguments]
    by_value = ", ".join(f"const {k} {n}" for n, k in zip(kernel.arguments, kinds, strict=True))
    pointers = "".join(f", const {k} *{n}" for n, k in zip(kernel.arguments, kinds, strict=True))
    device = ", ".join(n if n == "p" else f"{n}.at(blockIdx.x)" for n in kernel.arguments)
    host = ", ".join(f"*{n}" if n == "p" else f"{n}->at(replica)" for n in kernel.arguments)
    return f"""
#ifdef __CUDACC__
extern "C" __global__ void {kernel.name}_entry({by_value}) {{ {kernel.name}({device}); }}
#else
extern "C" void {kernel.name}_entry(int replicas, int lanes{pointers}) {{
  run(replicas, lanes, [=](int replica) {{ {kernel.name}({host}); }});
}}
#endif
"""


# -- packing: dataclasses to C structs

_packed: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _pack(kernel: Kernel, args: tuple, length: _Sizes, real: np.dtype) -> list[np.ndarray]:
    """The C structs of all arguments as zero-dimensional structured arrays."""
    frame = (length.key, real, _replicas(args), on_device(_first_array(args)))
    return [_pack_params(arg, real) if name == "p" else _pack_arrays(kernel.model, length.p, arg, frame)
            for name, arg in zip(kernel.arguments, args, strict=True)]


def _pack_arrays(model: ModuleType, p: Any, arg: Any, frame: tuple) -> np.ndarray:
    """Pointers to the arrays of one argument; kept until one of them is replaced or it meets arguments of another frame."""
    arrays = tuple(vars(arg).values())
    kept = _packed.get(arg)
    if kept is None or kept[1] != frame or any(a is not b for a, b in zip(kept[0], arrays, strict=True)):
        _check(model, p, arg, *frame[1:])
        dtype = np.dtype([(name, "u8") for name in vars(arg)] or [("nothing", "u1")])
        struct = np.array(tuple(_pointer(a) for a in arrays) or (0,), dtype)
        kept = _packed[arg] = (arrays, frame, struct)
    return kept[2]


def _pointer(array: Any) -> int:
    return array.data.ptr if on_device(array) else array.ctypes.data


@functools.lru_cache(maxsize=256)
def _pack_params(p: Any, real: np.dtype) -> np.ndarray:
    members: list[tuple] = []
    for f in dataclasses.fields(p):
        kind, value = np.dtype("i4") if _whole(f) else real, getattr(p, f.name)
        members.append((f.name, kind, (len(value) or 1,)) if isinstance(value, tuple) else (f.name, kind))
    values = ((0,) if isinstance(value, tuple) and not value else value for value in vars(p).values())  # C has no arrays of no length
    return np.array(tuple(values), np.dtype(members, align=True))


def _check(model: ModuleType, p: Any, arg: Any, real: np.dtype, replicas: int, device: bool) -> None:
    axes = sizes(model, p)
    for f in dataclasses.fields(arg):
        name, array, want = f"{type(arg).__name__}.{f.name}", getattr(arg, f.name), shape(f, axes, replicas)
        if array.shape != want or not array.flags.c_contiguous:
            raise ValueError(f"{name} must be C-contiguous of shape {want}, got shape {array.shape}, strides {array.strides}")
        if array.dtype != (dtype := np.dtype(DTYPES.get(f.metadata["dtype"], real))):
            raise TypeError(f"{name} must be {dtype}, got {array.dtype}")
        if on_device(array) != device:
            raise TypeError(f"{name} must live where the other arrays do, on the {'GPU' if device else 'CPU'}")


# -- compiling

@functools.lru_cache(maxsize=256)
def _cuda_function(kernel: Kernel, code: str) -> Any:
    import cupy
    module = cupy.RawModule(code=code, options=NVRTC, backend="nvrtc")
    return module.get_function(f"{kernel.name}_entry")


@functools.lru_cache(maxsize=256)
def _host_function(kernel: Kernel, length: _Sizes, real: np.dtype, flags: tuple[str, ...]) -> Any:
    library = ctypes.CDLL(str(compile_host(_code(kernel, length, real), flags)))
    return getattr(library, f"{kernel.name}_entry")


def compile_host(code: str, flags: tuple[str, ...] = HOST) -> Path:
    """Compile C++ text to a shared library, kept by content; raises BackendError without a working compiler."""
    compiler = find_compiler()
    if compiler is None:
        raise BackendError("backend native needs a C++ compiler: install g++ or set CXX, or choose backend=numpy")
    stamp = "\0".join((code, (HERE / "host.h").read_text(), compiler, _compiler_version(compiler), _processor(), *flags))
    library = _cache() / f"{hashlib.sha256(stamp.encode()).hexdigest()[:32]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            source, built = Path(folder) / "twin.cpp", Path(folder) / "twin.so"
            source.write_text(code)
            done = subprocess.run([compiler, *flags, f"-I{HERE}", str(source), "-o", str(built)], capture_output=True, text=True)
            if done.returncode:
                raise BackendError(f"backend native: {compiler} failed, choose backend=numpy or fix this: {done.stderr.strip()[:2000]}")
            os.replace(built, library)  # atomic: another process may be building the same text
    return library


def find_compiler() -> str | None:
    """Path of the system's C++ compiler ($CXX, c++, g++, clang++), or None."""
    return next((path for name in (os.environ.get("CXX"), "g++", "c++", "clang++") if name and (path := shutil.which(name))), None)


@functools.lru_cache(maxsize=8)
def _compiler_version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout


@functools.lru_cache(maxsize=1)
def _processor() -> str:
    with contextlib.suppress(OSError):
        return next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), platform.machine())
    return platform.machine()


def _cache() -> Path:
    with contextlib.suppress(OSError, RuntimeError):  # no home folder, or one that cannot be written
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rllib_macro" / "native"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    folder = Path(tempfile.gettempdir()) / f"rllib_macro-native-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise BackendError(f"{folder} belongs to somebody else, so no library there can be trusted: set XDG_CACHE_HOME to your own folder")
    return folder


# -- what this machine has

def native_problem() -> str | None:
    """Why the backend `native` cannot be used here, as one sentence; None if it can."""
    return None if find_compiler() else "no C++ compiler found: install g++ or set CXX (everything works without one, more slowly)"


def cuda_problem() -> str | None:
    """Why a GPU cannot be used here, as one sentence; None if one can."""
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed: pip install -r requirements-gpu.txt"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own type for a missing driver, an old driver and no device alike
        return f"no usable NVIDIA driver or GPU was found ({error}): install the driver, or choose device=cpu"
    return None if count else "no NVIDIA GPU is visible: check CUDA_VISIBLE_DEVICES, or choose device=cpu"
