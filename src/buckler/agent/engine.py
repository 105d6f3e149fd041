"""One pass: observe → resolve → plan → apply → prove. Lives in the worker's thread; never asks libvirt."""

from __future__ import annotations

import time

import msgspec
import structlog

from buckler.agent.adopt import keep_unknown
from buckler.agent.apply import Kernel, OnStep, apply, observe, step_name
from buckler.agent.belief import Belief
from buckler.agent.book import Book
from buckler.agent.desired import Desired, Observed, Roles
from buckler.agent.plan import Rejudge, Step, normal, plan
from buckler.agent.residents import Residents
from buckler.agent.resolve import resolve
from buckler.model.ids import Revision
from buckler.ports.guard import GuardFailed
from buckler.ports.links import LinksFailed
from buckler.ports.shield import ShieldFailed

_log = structlog.get_logger()
_ROUNDS = 3


class Outcome(msgspec.Struct, frozen=True):
    """What one pass came to. ``enforced`` is proven by reading back: 0 while something differs.

    ``admitted`` are the indexes of taps whose shield stands as desired and whose port the guard lets through.
    ``drift`` names the steps that were needed although nothing had been asked to change.
    """

    desired: Desired
    enforced: Revision
    admitted: frozenset[int]
    problems: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    seconds: float = 0.0


class Engine:
    """Keeps only what it last brought about, to tell drift from change, and what a look at the kernel does not show."""

    def __init__(self, kernel: Kernel, roles: Roles, residents: Residents, on_step: OnStep) -> None:
        self._kernel = kernel
        self._roles = roles
        self._residents = residents
        self._on_step = on_step
        self._book = Book()
        self._settled: Desired | None = None
        self._owes_rejudge = False

    def reconcile(self, belief: Belief) -> Outcome:
        """Bring the kernel to what the belief means now. Never raises for a bad world: it is told as a problem."""
        began = time.monotonic()
        try:
            outcome = self._reconcile(belief)
        except (ShieldFailed, GuardFailed, LinksFailed) as error:
            self._settled = None
            outcome = Outcome(Desired(), Revision(0), frozenset(), (f"cannot read the kernel back: {error}",))
        return msgspec.structs.replace(outcome, seconds=time.monotonic() - began)

    def sweep(self) -> None:
        """Throw out programs that are not what their digests name: the next pass closes, refills and tells it."""
        try:
            for digest in sorted(self._kernel.upkeep.altered_programs()):
                self._kernel.shield.delete_program(digest)
            self._kernel.upkeep.prune()
        except ShieldFailed as error:
            _log.warning("the sweep failed", error=str(error))

    def _reconcile(self, belief: Belief) -> Outcome:
        """Look and act until nothing differs. What fails once (a tap may vanish while it is being changed) is looked at anew."""
        problems: tuple[str, ...] = ()
        drift: tuple[str, ...] = ()
        failed: tuple[Step, ...] = ()
        desired, observed, planned = self._look(belief)
        for _ in range(_ROUNDS):
            if not planned or planned == failed:
                break
            drift += self._unasked(planned, observed, desired)
            applied = apply(planned, self._kernel, desired, belief.programs, self._on_step)
            problems, failed = applied.problems, planned if applied.problems else ()
            self._owes_rejudge = applied.owes_rejudge
            desired, observed, planned = self._look(belief)
            problems = problems if planned else ()
        problems += tuple(f"still differs: {step_name(step)}" for step in planned)
        self._settled = None if problems else desired
        is_proven = not problems and self._residents.is_complete
        enforced = Revision(belief.revision if is_proven else 0)
        standing = (*self._residents.problems, *desired.problems)
        return Outcome(desired, enforced, _admitted(observed, desired), (*problems, *standing), drift)

    def _unasked(self, planned: tuple[Step, ...], observed: Observed, desired: Desired) -> tuple[str, ...]:
        """Steps that what was brought about last needs as well are drift, also when something was asked to change."""
        if self._settled is None:
            return ()
        before = plan(observed, self._settled)
        steps = tuple(step for step in planned if step in before)
        return describe(steps, observed, desired) if steps else ()

    def _look(self, belief: Belief) -> tuple[Desired, Observed, tuple[Step, ...]]:
        links = self._kernel.links.links()
        addresses = self._kernel.links.host_addresses()
        desired = resolve(belief, self._roles, self._residents.all(), links, addresses, self._book)
        observed = observe(self._kernel, links)
        if not self._residents.is_complete:
            desired = keep_unknown(desired, observed)
        planned = plan(observed, desired)
        if self._owes_rejudge and Rejudge() not in planned:
            planned = (*planned, Rejudge())
        return desired, observed, planned


def describe(planned: tuple[Step, ...], observed: Observed, desired: Desired) -> tuple[str, ...]:
    """Say in words what differed."""
    words = []
    for step in planned:
        index = getattr(step, "ifindex", None) or getattr(getattr(step, "tap", None), "ifindex", None)
        index = index or getattr(getattr(step, "port", None), "ifindex", None)
        device = "" if index is None else f" {desired.devices.get(index, index)}"
        words.append(f"{step_name(step)}{device}")
    if observed.guard is None:
        words.insert(0, "the guard was missing or altered")
    return tuple(words)


def _admitted(observed: Observed, desired: Desired) -> frozenset[int]:
    guarded = set() if observed.guard is None else {index for index, _ in observed.guard.ports}
    sound = {
        index
        for index, tap in desired.taps.items()
        if index in observed.taps and normal(observed.taps[index]) == normal(tap)
    }
    return frozenset(guarded & sound)
