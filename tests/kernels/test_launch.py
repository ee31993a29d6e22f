"""A definition and its twin are one kernel: what is compiled, what is kept, what is refused, and what a machine without tools says."""
import ctypes
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from kernels import rbc
from kernels.core import launch
from kernels.core.arrays import allocate
from kernels.core.launch import HOST, BackendError, compile_host, cuda_problem, native_problem, use
from tests.worlds import modelled, needs_compiler, own, run, twins, world

TWINS = [(name, kernel) for name in modelled() for kernel in twins(name)]
STEPS = [(name, kernel) for name, kernel in TWINS if kernel.name == "step"]
SMALL = {"n_consumers": 7, "n_firms": 3}


def answer(n):
    """A text with one function that returns n."""
    return f'#define REAL float\n{(launch.HERE / "lanes.cuh").read_text()}\nextern "C" int answer() {{ return {n}; }}'


def ask(library):
    return ctypes.CDLL(str(library)).answer()


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """An empty cache and a compiler that notes every call; the fixture's value counts the libraries that were built."""
    log, script = tmp_path / "log", tmp_path / "cxx"
    script.write_text(f'#!/bin/sh\ncase "$*" in *-shared*) echo built >> "{log}";; esac\nexec "{launch.find_compiler()}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda: len(log.read_text().split()) if log.exists() else 0


@pytest.fixture
def no_compiler(tmp_path, monkeypatch):
    """A machine without a C++ compiler."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)


# -- the native cache

@needs_compiler
def test_the_same_text_is_compiled_once(counted):
    first, second = compile_host(answer(42)), compile_host(answer(42))
    assert first == second and ask(first) == 42
    assert counted() == 1


@needs_compiler
def test_another_text_or_other_flags_are_another_library(counted):
    libraries = {compile_host(answer(1)), compile_host(answer(2)), compile_host(answer(1), (*HOST, "-O1"))}
    assert [len(libraries), counted()] == [3, 3]
    assert sorted(map(ask, libraries)) == [1, 1, 2]


@needs_compiler
def test_many_may_build_the_same_text_at_once(counted, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        libraries = list(pool.map(compile_host, [answer(7)] * 4))
    assert set(map(ask, libraries)) == {7}
    assert list((tmp_path / "cache").rglob("*")) == [tmp_path / "cache/rllib_macro", tmp_path / "cache/rllib_macro/native", libraries[0]]


@needs_compiler
def test_a_failed_compilation_is_an_error_that_names_the_way_out(counted):
    with pytest.raises(BackendError, match="backend native: .* failed, choose backend=numpy or fix this: .*not_cpp"):
        compile_host("not_cpp")
    with pytest.raises(BackendError):
        compile_host("not_cpp")
    assert counted() == 2


@needs_compiler
def test_without_a_home_folder_libraries_are_kept_among_temporary_files(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(launch.tempfile, "tempdir", str(tmp_path))
    library = compile_host(answer(9))
    assert library.parent == tmp_path / f"rllib_macro-native-{os.getuid()}" and ask(library) == 9
    assert library.parent.stat().st_mode & 0o777 == 0o700


@needs_compiler
def test_libraries_of_somebody_else_are_not_trusted(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(launch.tempfile, "tempdir", str(tmp_path))
    owner = os.getuid()
    (tmp_path / f"rllib_macro-native-{owner + 1}").mkdir()
    monkeypatch.setattr(launch.os, "getuid", lambda: owner + 1)
    with pytest.raises(BackendError, match="belongs to somebody else"):
        compile_host(answer(9))


# -- a machine that lacks something

def test_without_a_compiler_the_native_backend_says_what_to_install(no_compiler):
    p, s, a, e, r = world("rbc", n_consumers=2, n_firms=2)
    with use("native"), pytest.raises(BackendError, match=r"install g\+\+ or set CXX, or choose backend=numpy$"):
        rbc.step(p, s, a, e, r)
    assert "no C++ compiler found" in native_problem()
    rbc.step(p, s, a, e, r)
    assert s.period == 1


def test_a_backend_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="backend must be numpy or native, got 'cuda'"), use("cuda"):
        pass


def test_without_cupy_the_gpu_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert cuda_problem() == "CuPy is not installed: pip install -r requirements-gpu.txt"


def test_a_missing_driver_is_one_sentence(monkeypatch):
    class Driverless:
        class cuda:
            class runtime:
                @staticmethod
                def getDeviceCount():
                    raise RuntimeError("CUDA driver version is insufficient")
    monkeypatch.setitem(sys.modules, "cupy", Driverless)
    assert "no usable NVIDIA driver or GPU was found (CUDA driver version is insufficient)" in cuda_problem()
    monkeypatch.setattr(Driverless.cuda.runtime, "getDeviceCount", lambda: 0)
    assert "no NVIDIA GPU is visible" in cuda_problem()


# -- what a twin refuses: it would read memory that means something else

@needs_compiler
@pytest.mark.parametrize(("changed", "change", "text"), [
    ("State.price", lambda x: x.astype(np.float64), r"float32 or float64 throughout, got \['float32', 'float64'\]"),
    ("Actions.employer", lambda x: x.astype(np.int64), "Actions.employer must be int32, got int64"),
    ("Rewards.government", lambda x: x.astype(np.int32), "Rewards.government must be float32, got int32"),
    ("State.price", lambda x: x[:, :2].copy(), r"State.price must be C-contiguous of shape \(2, 3\), got shape \(2, 2\)"),
    ("Actions.demand", lambda x: x[:1], r"Actions.demand must be C-contiguous of shape \(2, 7, 3\), got shape \(1, 7, 3\)"),
    ("Actions.demand", np.asfortranarray, "Actions.demand must be C-contiguous of shape"),
    ("State.budget", lambda x: np.repeat(x, 2, 1)[:, ::2], "State.budget must be C-contiguous of shape"),
])
def test_unsuitable_arrays_are_refused(changed, change, text):
    p, s, a, e, r = world("rbc", np.float32, 2, **SMALL)
    thing, field = {"State": s, "Actions": a, "Rewards": r}[changed.split(".")[0]], changed.split(".")[1]
    setattr(thing, field, change(getattr(thing, field)))
    with use("native"), pytest.raises((TypeError, ValueError), match=text):
        rbc.step(p, s, a, e, r)


@needs_compiler
def test_arrays_that_suited_another_call_are_looked_at_again():
    p, s, a, e, r = world("rbc", np.float32, 4, **SMALL)
    other = world("rbc", np.float32, 2, **SMALL)
    with use("native"):
        rbc.step(p, s, a, e, r)
        rbc.step(*other)
        with pytest.raises(ValueError, match=r"Actions.demand must be C-contiguous of shape \(4, 7, 3\), got shape \(2, 7, 3\)"):
            rbc.step(p, s, other[2], e, r)
        with pytest.raises(ValueError, match="State.price must be C-contiguous of shape"):
            rbc.step(replace(p, n_firms=4), s, a, e, r)


@needs_compiler
def test_a_replaced_array_is_noticed():
    p, s, a, e, r = world("rbc", np.float32, 2, **SMALL)
    with use("native"):
        rbc.step(p, s, a, e, r)
        a.price = np.full_like(a.price, 7)
        rbc.step(p, s, a, e, r)
    assert (s.price == 7).all()


@needs_compiler
@pytest.mark.parametrize("values", [
    {"crra": 1, "ponzi_firm": 50, "interest": 0, "gift": 1},  # whole numbers where the declaration has reals
    {"crra": np.float64(0.3), "interest": np.float32(0.5), "n_firms": np.int64(3), "clamp_budget": np.bool_(False)},
    {"labor_share": (1, 0), "initial_capital": (np.float32(5), 6.5, 7)},
])
def test_numbers_may_be_of_any_type(values):
    p = rbc.Params(**{**SMALL, **values, "horizon": 1, "firm_budget_per_consumer": -100.0})
    outcomes = []
    for backend in ("numpy", "native"):
        s = rbc.initial_state(p, 2, real=np.float64)
        a, e, r = (allocate(cls, rbc, p, 2, np, np.float64) for cls in (rbc.Actions, rbc.Shocks, rbc.Rewards))
        s.price[...], s.wage[...], s.inventory[...], a.demand[...], a.hours[...] = 10, 5, 3, 2, 520
        with use(backend):
            rbc.step(p, s, a, e, r)
        outcomes.append((s.firm_budget, s.capital, s.inventory, r.consumer, r.firm, r.government))
    for definition, twin in zip(*outcomes):
        assert twin == pytest.approx(definition, rel=1e-12)


def test_the_declaration_decides_what_is_an_integer():
    p, s, a, e, r = world("rbc", np.float32, **SMALL)
    text = rbc.step.code((replace(p, crra=1, horizon=4.0), s, a, e, r))
    assert "i32 horizon; real crra;" in text and "i32 clamp_budget;" in text and "real labor_share[5];" in text


@needs_compiler
def test_equal_parameters_of_other_types_are_the_same_parameters():
    whole, real = rbc.Params(ponzi_firm=50, horizon=1, **SMALL), rbc.Params(ponzi_firm=50.0, horizon=1, **SMALL)
    for dtype in (np.float32, np.float64):
        firm = []
        for p in (whole, real):
            _, s, a, e, r = world("rbc", dtype, firm_budget_per_consumer=-100, horizon=1, **SMALL)
            with use("native"):
                rbc.step(p, s, a, e, r)
            firm.append(r.firm)
        assert (firm[0] == firm[1]).all() and (firm[0] < -100).all()


@needs_compiler
def test_a_change_of_numbers_is_not_a_change_of_text(counted):
    first = world("rbc", np.float32, n_consumers=3, n_firms=2)
    second = world("rbc", np.float32, n_consumers=3, n_firms=2, horizon=4, crra=0.7, open_economy=False)
    assert rbc.afford.code(first[:3]) is rbc.afford.code(second[:3])
    with use("native"):
        rbc.afford(*first[:3])
        rbc.afford(*second[:3])
    assert counted() == 1


# -- text for GPUs, compiled without one

def compile_for_gpu(code, arch):
    cuda = pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -r requirements.txt")
    return cuda.Program(code, "c++", cuda.ProgramOptions(arch=arch, std="c++17", fma=False)).compile("cubin").code


def small(name, dtype):
    return world(name, dtype, **next(iter(own(name, "WORLDS", {"": {}}).values())))


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize(("name", "kernel"), STEPS, ids=lambda it: getattr(it, "name", it))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_compiles_for_every_gpu(name, kernel, arch, dtype):
    text = []
    run(kernel, small(name, dtype), lambda *args: text.append(kernel.code(args)))
    assert b"step_entry" in compile_for_gpu(text[0], arch)


@pytest.mark.parametrize(("name", "kernel"), TWINS, ids=lambda it: getattr(it, "name", it))
def test_every_twin_compiles_for_a_gpu(name, kernel):
    text = []
    run(kernel, small(name, np.float32), lambda *args: text.append(kernel.code(args)))
    assert f"{kernel.name}_entry".encode() in compile_for_gpu(text[0], "sm_90")


def test_a_mistake_in_a_twin_does_not_compile_for_a_gpu():
    args = small("rbc", np.float32)
    with pytest.raises(Exception, match="identifier"):
        compile_for_gpu(rbc.step.code(args).replace("real cost = 0", "real cots = 0"), "sm_90")


def test_the_text_is_whole(tmp_path):
    """No header, no define is missing: a strict compiler takes it as it is, with nothing but the dialect's host side."""
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    (tmp_path / "text.cpp").write_text(rbc.step.code(small("rbc", np.float32)))
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unused", "-fsyntax-only", f"-I{launch.HERE}"]
    done = subprocess.run(["g++", *flags, str(tmp_path / "text.cpp")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
