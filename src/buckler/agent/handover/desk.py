"""All handovers of this host, coming and going, by the domain's uuid. Speaks to no kernel and records nothing itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec
import structlog

from buckler.agent.doorman import Answer, Request
from buckler.agent.handover.account import STAYS, Account, Pending, Tell
from buckler.agent.handover.channel import Channel
from buckler.agent.handover.departures import Departures
from buckler.agent.handover.destination import Taker
from buckler.agent.handover.listener import Listener
from buckler.agent.handover.site import Site
from buckler.agent.handover.source import Giver, Notice
from buckler.agent.residing import find_residence
from buckler.gate.domain import BadDomain, parse_domain
from buckler.model.bundle import Member
from buckler.model.domain import DomainFacts
from buckler.model.ids import HostId, VmId
from buckler.ports.hypervisor import DomainEvent

_log = structlog.get_logger()
_POLICY_SECONDS = 2.0
_BULK_SECONDS = 4.0
_HOOKS = frozenset({"migrate", "prepare", "start", "started"})


class Coming(msgspec.Struct):
    """A VM on its way here. ``taker`` is None when nobody can be asked; the account says why."""

    taker: Taker | None
    pending: Pending
    account: Account


class Going:
    """A VM on its way from here: who was given what. More than one may ask; one that got all of it counts most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = 0
        self._best: Account | None = None
        self._pending = Pending()

    @property
    def is_under_way(self) -> bool:
        return self._under_way > 0

    def begin(self) -> None:
        with self._lock:
            self._under_way += 1

    def end(self, account: Account) -> None:
        with self._lock:
            self._under_way -= 1
            if self._best is None or account.is_complete:
                self._best = account
            best = self._best if account.is_complete or not self._under_way else None
        if best is not None:
            self._pending.finish(best)

    def ask(self, tell: Tell) -> None:
        self._pending.ask(tell)


class Desk:
    """Its methods are called by the hooks' threads, the watcher and the worker; none of them waits but where it says so."""

    def __init__(self, site: Site, address: Callable[[], str]) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._coming: dict[str, Coming] = {}
        self._going: dict[str, Going] = {}
        self._went: dict[VmId, HostId] = {}
        self._departures = Departures()
        self._listener = Listener(
            site.identity, lambda: (at, site.port) if (at := address()) else None, self._members, self._attend
        )

    def start(self) -> None:
        self._listener.start()

    def stop(self) -> None:
        self._listener.stop()
        with self._lock:
            coming = list(self._coming.values())
        for each in coming:
            if each.taker is not None:
                each.taker.drop()

    def before_hook(self, request: Request) -> None:
        """In the hook's own thread: what must be known before the gate is asked. Waits a bounded time."""
        if request.operation != "migrate":
            return
        try:
            self._expect(parse_domain(request.xml), min(_POLICY_SECONDS, request.seconds / 2))
        except BadDomain:
            return  # the gate tells it
        except Exception:
            _log.exception("a handover did not begin")  # a VM may come without its connections

    def after_hook(self, request: Request, answer: Answer, seconds: float) -> None:
        """What the gate's answer, or QEMU's start, means for a handover. Waits at most ``seconds``."""
        if request.operation not in _HOOKS:
            return
        with suppress(BadDomain):
            uuid = parse_domain(request.xml).uuid
            if not answer.allowed:
                self.drop(uuid)
            elif request.operation == "start":
                self._stand(uuid)
            elif request.operation == "started":
                self._settle(uuid, seconds)

    def _expect(self, facts: DomainFacts, seconds: float) -> None:
        """Hook ``migrate``: ask the source for newer policy, and wait for that."""
        self.drop(facts.uuid)
        coming = self._find(facts)
        with self._lock:
            self._coming[facts.uuid] = coming
        if coming.taker is None:
            coming.pending.finish(coming.account)
            return
        threading.Thread(target=coming.taker.run, args=(coming.pending.finish,), name="taker", daemon=True).start()
        coming.taker.settled.wait(seconds)

    def _stand(self, uuid: str) -> None:
        """Hook ``start`` was allowed: what is handed over can be put at the VM's taps."""
        if (taker := self._taker(uuid)) is not None:
            taker.ready.set()

    def _settle(self, uuid: str, seconds: float) -> None:
        """Hook ``started``: wait until the bulk is here, a bounded time."""
        if (taker := self._taker(uuid)) is not None:
            taker.stands.wait(min(_BULK_SECONDS, seconds))

    def drop(self, uuid: str) -> None:
        """It does not come: refused, given up, or asked for anew."""
        with self._lock:
            coming = self._coming.pop(uuid, None)
        if coming is not None and coming.taker is not None:
            coming.taker.drop()

    def account(self, uuid: str) -> Account | None:
        """What is known so far of a VM that is on its way here."""
        with self._lock:
            coming = self._coming.get(uuid)
        if coming is None:
            return None
        return coming.account if coming.taker is None else coming.taker.account

    def note(self, event: DomainEvent) -> None:
        """An event of libvirt's, before anybody else acts on it."""
        self._departures.note(event)
        if event.what == "resumed":
            self._forget_going(event.uuid)

    def arrived(self, uuid: str, vm: VmId, epoch: int, tell: Tell) -> None:
        """It runs here now, in the stay ``epoch``; ``tell`` is called once the handover is over, in seconds at most."""
        with self._lock:
            coming = self._coming.pop(uuid, None)
        binding = self._site.binding(vm)

        def complete(account: Account) -> None:
            tell(msgspec.structs.replace(account, epoch=epoch, binding_after=binding, destination=self._site.host))

        if coming is None:
            complete(Account(vm=vm, handover="this agent was not running when the VM came"))
            return
        coming.pending.ask(complete)
        if coming.taker is not None:
            coming.taker.arrive(epoch)

    def aborted(self, uuid: str, tell: Tell) -> None:
        """It was on its way here and will not come: nothing of it stays."""
        account = self.account(uuid) or Account()
        self.drop(uuid)
        tell(msgspec.structs.replace(account, handover=account.handover or "the VM did not come"))

    def left(self, uuid: str, vm: VmId, tell: Tell) -> None:
        """It runs elsewhere. What went along is forgotten, of the stay that was handed over and earlier ones only."""

        def complete(account: Account) -> None:
            if account.epoch:
                self._site.carried.forget(vm, account.epoch)
            tell(account)

        with self._lock:
            going = self._going.pop(uuid, None)
        if going is None:
            complete(Account(vm=vm, origin=self._site.host, handover="no destination asked for it"))
        else:
            going.ask(complete)

    def _find(self, facts: DomainFacts) -> Coming:
        pending = Pending()
        stay = find_residence(facts.residence, self._site.believer.belief)
        vm = self._site.vm_of(facts.uuid)
        if stay is None:
            words = "it carries no residence that a member signed" if facts.residence else "it carries no residence"
            return Coming(None, pending, Account(vm=vm or VmId(""), destination=self._site.host, handover=words))
        account = Account(vm=stay.vm, origin=stay.host, destination=self._site.host, epoch=stay.epoch)
        own = self._site.stay(stay.vm)
        # A VM that comes back before its last host could write its residence: this host knows where it went.
        member = self._site.member(self._went.get(stay.vm, stay.host) if stay.host == self._site.host else stay.host)
        why = ""
        if vm is not None and vm != stay.vm:
            why = "the residence that it carries is another VM's"
        elif member is None:
            why = (
                "it carries the residence of this very host"
                if stay.host == self._site.host
                else "its host is no member"
            )
        elif not member.fabric:
            why = "its host has no address on the fabric"
        if why or member is None:
            return Coming(None, pending, msgspec.structs.replace(account, handover=why))
        least = max(stay.epoch, 0 if own is None else own.epoch)
        return Coming(Taker(self._site, facts.uuid, stay, facts.residence, member, least), pending, account)

    def _taker(self, uuid: str) -> Taker | None:
        with self._lock:
            coming = self._coming.get(uuid)
        return None if coming is None else coming.taker

    def _members(self) -> tuple[Member, ...]:
        return tuple(one for one in self._site.believer.belief.members if one.id != self._site.host)

    def _attend(self, member: Member, channel: Channel) -> None:
        Giver(self._site, self._departures, member, channel, Notice(self._begun, self._went.get)).run()

    def _begun(self, uuid: str) -> Callable[[Account], None]:
        with self._lock:
            going = self._going.get(uuid)
            if going is None or not going.is_under_way:
                going = self._going[uuid] = Going()
            going.begin()
        return partial(self._given, uuid, going)

    def _given(self, uuid: str, going: Going, account: Account) -> None:
        with self._lock:
            if account.is_complete:
                self._went[account.vm] = account.destination
        going.end(account)
        if account.handover == STAYS:
            self._forget_going(uuid)

    def _forget_going(self, uuid: str) -> None:
        """It goes on here: what was given is no word of a later move."""
        with self._lock:
            going = self._going.get(uuid)
            if going is not None and not going.is_under_way:
                del self._going[uuid]
