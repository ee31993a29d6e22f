"""Nested state on disk without pickle: the tree as JSON, its arrays as safetensors, sizes and hashes in a manifest."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

MANIFEST = "manifest.json"
TREE, ARRAYS = "state.json", "arrays.safetensors"


class StoreError(ValueError):
    """A stored state is missing or damaged; the text is one sentence."""


def save_tree(folder: Path, tree: Any) -> None:
    """Write dictionaries, lists, tuples, numbers, text, arrays and tensors to a folder, and seal it with a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_encode(tree, arrays))
    (folder / TREE).write_text(text)
    save_file(arrays, folder / ARRAYS)
    seal(folder)


def load_tree(folder: Path) -> Any:
    """What `save_tree` wrote, arrays as NumPy arrays; StoreError if a file is missing or not as it was written."""
    verify(folder)
    try:
        return _decode(json.loads((folder / TREE).read_text()), load_file(folder / ARRAYS))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise StoreError(f"checkpoint {folder} cannot be read ({error}); use another checkpoint") from None


def seal(folder: Path) -> None:
    """Write a manifest of every file's size and SHA-256."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name != MANIFEST)
    manifest = {str(f.relative_to(folder)): {"bytes": f.stat().st_size, "sha256": _sha256(f)} for f in files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def verify(folder: Path) -> None:
    """StoreError if a file of a sealed folder is missing or of another size or content."""
    try:
        manifest: Mapping[str, Any] = json.loads((folder / MANIFEST).read_text())
        for name, want in manifest.items():
            file = folder / name
            if not file.is_file() or file.stat().st_size != want["bytes"] or _sha256(file) != want["sha256"]:
                raise StoreError(f"checkpoint {folder} is damaged: {name} is not as it was saved; use another checkpoint")
    except StoreError:
        raise
    except (OSError, TypeError, KeyError, AttributeError, ValueError):
        raise StoreError(f"checkpoint {folder} is incomplete: it has no readable {MANIFEST}; use another checkpoint") from None


def _encode(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(tree, torch.Tensor):
        tree = tree.detach().cpu().numpy()
    if isinstance(tree, np.ndarray):
        arrays[name := f"a{len(arrays)}"] = np.ascontiguousarray(tree)
        return {"array": name, "shape": list(tree.shape)}
    if isinstance(tree, Mapping):
        return {"dict": [[_encode(key, arrays), _encode(value, arrays)] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        return {"list" if isinstance(tree, list) else "tuple": [_encode(value, arrays) for value in tree]}
    if isinstance(tree, np.generic):
        return tree.item()
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise TypeError(f"cannot store a {type(tree).__name__}")


def _decode(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[tree["array"]].reshape(tree["shape"])
    if "dict" in tree:
        return {_decode(key, arrays): _decode(value, arrays) for key, value in tree["dict"]}
    kind = "list" if "list" in tree else "tuple"
    return (list if kind == "list" else tuple)(_decode(value, arrays) for value in tree[kind])


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
