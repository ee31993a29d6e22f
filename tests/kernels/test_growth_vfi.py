"""Value iteration on a grid: the walk of the published program, its numbers, and twins that may look away but must see the same."""
from copy import deepcopy
from dataclasses import fields, replace

import numpy as np
import pytest
from pytest import approx

from kernels import growth, growth_vfi
from kernels.core.launch import HOST, cuda_problem, use
from rllib_macro.solvers import vfi
from tests.worlds import BACKENDS, needs_compiler

PHASES = [growth_vfi.expect, growth_vfi.choose, growth_vfi.enjoy]
WHOLE = [growth_vfi.sweep_as_published, growth_vfi.iterate_policy]
KERNELS = pytest.mark.parametrize("kernel", [*PHASES, *WHOLE], ids=lambda kernel: kernel.name)
LOOSE = {"drift", "due", "below", "above"}  # what a twin remembers for itself
MODELS = {
    "two at once": [growth.jesusfv(), replace(growth.jesusfv(), beta=0.9, alpha=0.4)],
    "utilities": [replace(growth.jesusfv_corrected(), depreciation=(0.5,), crra=crra) for crra in (1.0, 2.0, 0.5)],
    "log-linear": [growth.hercowitz_sampson()],
}
POINTS = 150


def world(models, points=POINTS):
    return growth_vfi.problem(models, np.stack([np.linspace(*growth.box(p), points) for p in models]))


def walked(s, tolerance):
    """The published walk, for one replica with log utility and linear accumulation: (choices, values, sweeps)."""
    beta, (levels, points) = s.beta[0], s.value[0].shape
    value, choice, sweeps, change = np.zeros((levels, points)), np.zeros((levels, points), int), 0, np.inf
    while change > tolerance:
        fresh, expected = np.empty_like(value), s.weights[0] @ value
        for j in range(levels):
            start = 0
            for i in range(points):
                best = -np.inf
                for g in range(start, points):
                    c = s.resources[0, j, i] - s.goods[0, j, g]
                    now = (1 - beta) * np.log(c) + beta * expected[j, g] if c > 0 else -np.inf
                    if not now > best:
                        break
                    best, start = now, g
                fresh[j, i], choice[j, i] = best, start
        change, value, sweeps = np.abs(fresh - value).max(), fresh, sweeps + 1
    return choice, value, sweeps


@pytest.mark.parametrize("backend", BACKENDS)
def test_choices_are_those_of_a_walk_up_the_grid(backend):
    q, s = world([growth.jesusfv()], 60)
    q = replace(q, tolerance=1e-3)
    choice, value, sweeps = walked(s, q.tolerance)
    with use(backend):
        growth_vfi.sweep_as_published(q, s)
    assert sweeps == s.sweeps[0] and (s.choice[0] == choice).all() and len(np.unique(choice)) > 15
    np.testing.assert_allclose(s.value[0], value, rtol=1e-14)


@pytest.mark.parametrize(("p", "sup_diff", "check"), [
    (growth.jesusfv(), 9.7160356538061876e-08, 0.14654914369569541),
    (replace(growth.jesusfv(), alpha=1 / 3), 9.7160356427039574e-08, 0.14654914369626351),
    (growth.jesusfv_corrected(), None, 0.14653914369569543),
], ids=["published", "alpha a third", "rows sum to one"])
@needs_compiler
def test_the_published_numbers_to_the_last_digit(p, sup_diff, check):
    facts = vfi.solve(p, mode="bitwise").facts
    assert (facts["iterations"], facts["check"]) == (257, check)
    assert sup_diff is None or facts["sup_diff"] == sup_diff


@needs_compiler
def test_the_port_of_the_program_finds_the_same_bits():
    p = growth.jesusfv()
    ours, theirs = vfi.solve(p, mode="bitwise"), vfi.solve(p, mode="published")
    assert vfi.compared(ours, theirs) == {"policies that differ": 0, "values": 0.0}
    assert all(ours.facts[name] == theirs.facts[name] for name in ("iterations", "sup_diff", "check"))


@needs_compiler
def test_the_fast_mode_chooses_as_the_published_program_does():
    p = growth.jesusfv()
    bitwise = vfi.solve(p, mode="bitwise")
    for start in vfi.STARTS:
        found = vfi.compared(vfi.solve(p, mode="fast", start=start), bitwise)
        assert found["policies that differ"] == 0 and found["values"] < 2e-6, start


def test_a_small_change_of_the_value_proves_nothing_about_the_policy():
    """Howard's improvement with the published stop: a new policy every 41st sweep, until V changes by less than 1e-7."""
    grids = (vfi.published_grid(growth.jesusfv())[0] + 1e-4 * np.arange(1782))[None]
    q, s = growth_vfi.problem([growth.jesusfv()], grids)
    while not s.sweeps[0] or s.change[0] > 1e-7:
        growth_vfi.expect(q, s)
        if s.sweeps[0] % 41 == 0:
            growth_vfi.choose(q, s)
        growth_vfi.enjoy(q, s)
    trapped = s.choice.copy()
    q, s = growth_vfi.problem([growth.jesusfv()], grids)
    growth_vfi.iterate_policy(replace(q, tolerance=1e-11), s)
    assert s.done[0] and s.still[0] > 1
    right = s.choice.copy()
    assert (trapped != right).mean() > 0.1
    q, s = growth_vfi.problem([growth.jesusfv()], grids)
    s.choice[...] = trapped
    growth_vfi.iterate_policy(replace(q, tolerance=1e-11), s)
    assert (s.choice == right).all()


def test_the_best_for_the_first_guess_is_not_yet_the_best():
    """From the closed form nothing moves in the first sweep, though thousands of choices of the grid's own optimum differ."""
    p = growth.jesusfv()
    grids = vfi.published_grid(p)[None]
    q, s = growth_vfi.problem([p], grids)
    vfi.begin(s, grids, [p])
    first = s.choice.copy()
    with vfi.backend():
        growth_vfi.iterate_policy(replace(q, tolerance=1e-8, most_sweeps=1), s)
        assert s.moved[0] == 0 and not s.done[0]
        growth_vfi.iterate_policy(replace(q, tolerance=1e-8), s)
    assert (s.choice != first).sum() > 1000


def test_values_of_levels_are_solved_exactly():
    """Where every choice is forced, one sweep tells what a level is worth for ever: here sum beta^t P^t u."""
    p = replace(growth.jesusfv_corrected(), productivity=(0.9, 1.0, 1.1, 1.2, 1.3))
    q, s = growth_vfi.problem([p], np.array([[0.18, 0.18 + 1e-12]]))
    growth_vfi.iterate_policy(replace(q, most_sweeps=1), s)
    y = growth.output(p, np.full(5, 0.18), np.arange(5))
    wanted = np.linalg.solve(np.eye(5) - p.beta * np.reshape(p.transition, (5, 5)), (1 - p.beta) * np.log(y - 0.18))
    assert s.value[0, :, 0] == approx(wanted, abs=1e-10)


def test_a_grid_that_cannot_be_kept_is_refused():
    with pytest.raises(ValueError, match="the lowest capital of the grid cannot be reached from itself; raise params.box_low"):
        growth_vfi.problem([growth.jesusfv()], np.array([[1.5, 2.0]]))


# -- twins

def outcome(kernel, models, how, sweeps, most=100_000):
    """A problem after some sweeps of the definitions, then what `how` makes of it."""
    q, s = world(models)
    for _ in range(sweeps):
        for phase in PHASES:
            phase.definition(q, s)
    if kernel in WHOLE:
        s.sweeps[...] = 0
    how(replace(q, tolerance=1e-9, most_sweeps=most), s)
    return s


def assert_alike(got, want, exact=False):
    for f in fields(want):
        found, wanted = getattr(got, f.name), getattr(want, f.name)
        if f.name in LOOSE:
            continue
        if wanted.dtype.kind != "f" or exact:
            assert (found == wanted).all(), f.name
        else:
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12, err_msg=f.name)


@needs_compiler
@pytest.mark.parametrize("models", MODELS.values(), ids=MODELS)
@KERNELS
def test_a_twin_equals_its_definition(kernel, models):
    sweeps = 0 if kernel in WHOLE or kernel is growth_vfi.choose else 5
    want = outcome(kernel, models, kernel.definition, sweeps)
    assert_alike(outcome(kernel, models, lambda *args: kernel.run_native(args), sweeps), want)
    assert kernel not in WHOLE or (want.done == 1).all() and want.sweeps.min() > 5


@needs_compiler
@pytest.mark.parametrize("kernel", WHOLE, ids=lambda kernel: kernel.name)
def test_one_lane_equals_32_threads_bit_for_bit(kernel):
    models = MODELS["utilities"]
    many = outcome(kernel, models, lambda *args: kernel.run_native(args, lanes=32, flags=(*HOST, "-DTHREADS")), 0, 12)
    assert_alike(many, outcome(kernel, models, lambda *args: kernel.run_native(args), 0, 12), exact=True)


@needs_compiler
def test_a_calibration_alone_is_what_it_is_among_many():
    models = MODELS["utilities"]
    q, many = world(models)
    growth_vfi.iterate_policy.run_native((q, many))
    for b, model in enumerate(models):
        q, alone = world([model])
        growth_vfi.iterate_policy.run_native((q, alone))
        assert (alone.choice[0] == many.choice[b]).all() and (alone.value[0] == many.value[b]).all()


@needs_compiler
def test_choices_that_are_not_looked_at_could_not_have_changed():
    """All choices are looked at again after every sweep; the twin that looks where it must has the same ones."""
    q, s = world([growth.jesusfv()], 4000)
    q, again = replace(q, most_sweeps=1), deepcopy(s)
    skipped = 0
    for _ in range(60):
        growth_vfi.sweep_as_published.run_native((q, s))
        due = s.due.copy()
        again.due[...] = -1
        growth_vfi.sweep_as_published.run_native((q, again))
        skipped += (s.due == due).mean() > 0
        assert (s.choice == again.choice).all() and (s.value == again.value).all() and s.moved == again.moved
    assert (s.drift[:, None] < s.due[0, :, :4000 // 32].max()).any() and skipped


@pytest.mark.parametrize("arch", ["sm_80", "sm_100"])
def test_twins_compile_for_old_and_new_gpus(arch):
    cuda = pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -r requirements.txt")
    args = world([growth.jesusfv()])
    program = cuda.Program(growth_vfi.iterate_policy.code(args), "c++", cuda.ProgramOptions(arch=arch, std="c++17", fma=False))
    assert b"iterate_policy_entry" in program.compile("cubin").code


@pytest.mark.gpu
@pytest.mark.skipif(bool(cuda_problem()), reason=str(cuda_problem()))
@pytest.mark.parametrize("models", MODELS.values(), ids=MODELS)
@KERNELS
def test_a_twin_on_the_gpu_equals_the_definition(kernel, models):
    import cupy
    q, want = world(models)
    q, got = growth_vfi.problem(models, cupy.stack([cupy.linspace(*growth.box(p), POINTS) for p in models]), cupy)
    kernel.definition(q, want)
    kernel(q, got)
    for f in fields(want):
        if f.name not in LOOSE:
            np.testing.assert_allclose(getattr(got, f.name).get(), getattr(want, f.name), rtol=1e-12, atol=1e-12, err_msg=f.name)
