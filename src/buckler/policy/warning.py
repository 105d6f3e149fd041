"""What people are warned of in some of a pool's documents, without working out what all the others decide.

Whom a rule means follows from the pool and its own document alone. Owns no finding (questions).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import count
from typing import TypeVar

from buckler.model.ids import FIRST_CIDR_IDENTITY, FIRST_VM_IDENTITY, IdentityNumber, RuleNumber
from buckler.model.pool import Vm
from buckler.policy.compose import NAMED_KINDS, compose_documents, key_of_excepted
from buckler.policy.language import Document, ExceptionSpec, Kind
from buckler.policy.pool import Pool, Singled, Station, Visitor, identity_key, singled_out, stations_of, visitors
from buckler.policy.problem import Problem
from buckler.policy.questions import warnings_in
from buckler.policy.rows import Rows

T = TypeVar("T")


def warn_about(
    pool: Pool, documents: Iterable[Document], applied: Sequence[Document], today: str, over: Iterable[Document] = ()
) -> tuple[Problem, ...]:
    """Give those of ``list_warnings`` that are told at the places of ``applied``; what code made has none and is its own."""
    at = frozenset((each.file, line) for each in applied for line in (each.line, *each.lines.values()))
    made = frozenset(each.key for each in applied if not each.file)
    files = frozenset(file for file, _ in at if file)
    rest = [each for each in documents if each.kind is not Kind.VM]
    written = [each for each in rest if (each.file in files and _is_at(each, at)) or (made and each.key in made)]
    excepted = {key_of_excepted(each) for each in written if isinstance(each.spec, ExceptionSpec)}
    own = {id(each) for each in written}
    chosen = tuple(
        each for each in rest if id(each) in own or each.kind in NAMED_KINDS or (excepted and each.key in excepted)
    )
    rows = _rows_of(pool, compose_documents(chosen), singled_out(rest))
    found = warnings_in(
        rows, pool, chosen, today, [each for each in over if _is_at(each, at) and (each.file or each.key in made)]
    )
    return tuple(each for each in found if (each.file, each.line) in at)


def _is_at(document: Document, at: frozenset[tuple[str, int]]) -> bool:
    return any((document.file, line) in at for line in (document.line, *document.lines.values()))


def _rows_of(pool: Pool, composed: Sequence[Document], singled: Singled) -> Rows:
    """Put only these documents among all label sets. The numbers are nobody's."""
    rows = Rows(_counted(RuleNumber, 1))
    identity, cidr = _counted(IdentityNumber, FIRST_VM_IDENTITY), _counted(IdentityNumber, FIRST_CIDR_IDENTITY)
    networks = {network.name: network for network in pool.networks}
    found: list[Station | Visitor] = [*visitors(pool, singled)]
    for vm in _unlike(pool.vms, singled):
        found += stations_of(vm, networks, singled)
    for key, each in {identity_key(each.labels): each for each in found}.items():
        rows.put_labels(identity(key), each.labels, each.network.zone)
    for document in composed:
        rows.put_document(document, cidr)
    rows.settle()
    return rows


def _unlike(vms: Iterable[Vm], singled: Singled) -> Iterable[Vm]:
    """Give one of each kind of VM that no selector tells apart."""
    if singled.everyone:
        return vms
    kinds: dict[Hashable, Vm] = {}
    for vm in vms:
        own = vm.id if vm.name in singled.names or vm.id in singled.ids else ""
        cards = tuple([(card.network, *card.labels.items()) for card in vm.interfaces])
        kinds[own, vm.tenant, *vm.labels.items(), cards] = vm
    return kinds.values()


def _counted(kind: Callable[[int], T], first: int) -> Callable[[str], T]:
    numbers: dict[str, T] = {}
    following = count(first)
    return lambda name: numbers[name] if name in numbers else numbers.setdefault(name, kind(next(following)))
