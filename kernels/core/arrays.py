"""Declarations of a model's numbers and arrays, and their allocation on a device.

`param` declares a number of `Params`, `per` an array of `State`, `Actions`, `Shocks` or `Rewards`. Both keep what a reader and
a table want to know (symbol, unit, meaning) beside the field, and nowhere else.
"""
from __future__ import annotations

import dataclasses
import math
import sys
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray; both speak the same language here


def param(default: Any, doc: str, *, symbol: str = "", unit: str = "", source: str = "", low: float | None = None) -> Any:
    """A field of `Params` with its default, meaning, symbol, unit, source, and the least value it may take."""
    return dataclasses.field(default=default, metadata={"doc": doc, "symbol": symbol, "unit": unit, "source": source, "low": low})


def per(*axes: str, doc: str, unit: str = "", dtype: str = "real") -> Any:
    """An array field of shape (replica, *axes); `axes` are letters of the module's AXES, dtype is real, f32, i16, i32, i64 or u8."""
    return dataclasses.field(metadata={"axes": axes, "doc": doc, "unit": unit, "dtype": dtype})


DTYPES = {"i16": np.int16, "i32": np.int32, "i64": np.int64, "u8": np.uint8, "f32": np.float32}


def sizes(model: ModuleType, p: Any) -> dict[str, int]:
    """Length of every named axis of a model under parameters p: {"C": 100, "F": 10}."""
    return {axis: int(getattr(p, name)) for axis, name in model.AXES.items()}


def shape(field: dataclasses.Field, length: dict[str, int], replicas: int) -> tuple[int, ...]:
    """(replicas, *axes) of a declared array."""
    return (replicas, *(length[axis] for axis in field.metadata["axes"]))


def allocate(cls: type, model: ModuleType, p: Any, replicas: int, xp: ModuleType = np, real: Any = np.float32) -> Any:
    """An instance of `cls` with every declared array zero, on the device of `xp`, in the working precision `real`."""
    length = sizes(model, p)
    return cls(**{
        f.name: xp.zeros(shape(f, length, replicas), DTYPES.get(f.metadata["dtype"], real)) for f in dataclasses.fields(cls)
    })


def members(arrays: Any, axis: str, rows: slice) -> Any:
    """The same dataclass of arrays, on every array with this axis a view of some of its rows."""
    def view(f: dataclasses.Field) -> Array:
        return getattr(arrays, f.name)[:, *(rows if letter == axis else slice(None) for letter in f.metadata["axes"])]
    return type(arrays)(**{f.name: view(f) for f in dataclasses.fields(arrays)})


def needed(model: ModuleType, p: Any, replicas: int, real: Any = np.float32) -> int:
    """Bytes of all arrays that a model declares, for so many replicas."""
    length = sizes(model, p)
    declared = [f for cls in (model.State, model.Actions, model.Shocks, model.Rewards) for f in dataclasses.fields(cls)]
    return sum(math.prod(shape(f, length, replicas)) * np.dtype(DTYPES.get(f.metadata["dtype"], real)).itemsize for f in declared)


def namespace(thing: Any) -> ModuleType:
    """The array module that `thing`, an array or a dataclass of arrays, belongs to: numpy, cupy if it lives on a GPU, torch for tensors."""
    first = thing if hasattr(thing, "shape") else next(iter(vars(thing).values()), None)
    if hasattr(first, "requires_grad"):
        return sys.modules["torch"]
    if on_device(first):
        import cupy
        return cupy
    return np


def on_device(array: Any) -> bool:
    """Whether an array lives on a GPU."""
    return hasattr(array, "__cuda_array_interface__")


def to_host(array: Array) -> np.ndarray:
    """The array in the CPU's memory; itself if it is there already."""
    return array.get() if on_device(array) else np.asarray(array)


def adjust(p: Any, **values: Any) -> Any:
    """Parameters with some fields replaced, each cast to the type of its default: `adjust(p, gift=0)` keeps gift a float."""
    kinds: dict[str, Any] = {f.name: type(f.default) for f in dataclasses.fields(p)}
    cast = {name: tuple(map(float, value)) if kinds[name] is tuple else kinds[name](value) for name, value in values.items()}
    return dataclasses.replace(p, **cast)
