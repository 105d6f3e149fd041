"""One handover at the destination: finding the source, taking its policy if newer, then what it gives. Admits no VM."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping

import msgspec
import structlog

from buckler.agent.handover.account import WHOLE, Account, in_part
from buckler.agent.handover.bundle import MAX_BODY, MAX_SECTIONS, Bundle, Expected, check_bodies, read_bundle
from buckler.agent.handover.carried import has_room
from buckler.agent.handover.channel import Channel, ChannelFailed, Deadline, connect
from buckler.agent.handover.section import BadSection, Content
from buckler.agent.handover.site import Site
from buckler.agent.handover.talk import (
    MAX_WANTED,
    MAX_WELCOME,
    VERSION,
    Give,
    Handed,
    Hello,
    Refused,
    Taken,
    Want,
    Welcome,
)
from buckler.model.bundle import Member, Residence
from buckler.model.canonical import digest_of
from buckler.model.ids import Digest
from buckler.policy.walk import MAX_BYTES, MAX_OBJECT
from buckler.ports.shield import ShieldFailed
from buckler.ports.state import StateFailed
from buckler.trust.statement import Untrusted, key_from_text, public_bytes

_log = structlog.get_logger()
_CONNECT_SECONDS = 1.5
_GREETING_SECONDS = 5.0
_POLICY_SECONDS = 30.0
_TAPS_SECONDS = 60.0
_BUNDLE_SECONDS = 30.0
_QUIET_SECONDS = 6 * 3600.0
_FINAL_SECONDS = 3.0
_IDLE_SHARE = 3
_MAX_HOPS = 3
_MAX_TOTAL = 4 << 30


class Taker:
    """A thread of its own. The hooks wait for ``settled`` (policy) and ``stands`` (the bulk), each for as long as they may."""

    def __init__(self, site: Site, uuid: str, stay: Residence, carried: str, member: Member, least_epoch: int) -> None:
        self._site = site
        self._uuid = uuid
        self._vm = stay.vm
        self._carried = carried
        self._member = member
        self._expected = Expected(stay.vm, member.id, site.host, secrets.token_urlsafe(24), least_epoch)
        self._account = Account(vm=stay.vm, origin=member.id, destination=site.host, epoch=stay.epoch)
        self._taken: dict[str, Content] = {}
        self._refused: dict[str, str] = {}
        self._bytes = 0
        self._channel: Channel | None = None
        self._lock = threading.Lock()
        self._is_over = False
        self._is_dropped = False
        self._arrived_at = 0.0
        self._own_epoch = 0
        self.settled = threading.Event()
        self.ready = threading.Event()
        self.stands = threading.Event()

    @property
    def account(self) -> Account:
        return self._account

    @property
    def epoch(self) -> int:
        return self._account.epoch

    def drop(self) -> None:
        """The VM does not come."""
        with self._lock:
            is_late, self._is_dropped = self._is_over and not self._is_dropped, True
        self.ready.set()
        if is_late:
            self._settle()

    def arrive(self, epoch: int) -> None:
        """The VM runs here, in a stay with this epoch: what is still to come must come soon."""
        with self._lock:
            is_late, self._arrived_at, self._own_epoch = self._is_over, time.monotonic(), epoch
        self.ready.set()
        if is_late:
            self._settle()

    def patience(self) -> float:
        """How long the source may still say nothing. Raises ChannelFailed when the VM does not come."""
        if self._is_dropped:
            raise ChannelFailed("the VM did not come")
        return self._arrived_at + _FINAL_SECONDS - time.monotonic() if self._arrived_at else _QUIET_SECONDS

    def run(self, finished: Callable[[Account], None]) -> None:
        """The whole of it; ``finished`` is called once, with what came of it."""
        began = time.monotonic()
        words = ""
        try:
            words = self._take_all()
        except (ChannelFailed, Untrusted) as error:
            words = str(error)
        except (ShieldFailed, StateFailed) as error:
            words = f"this host could not take it: {error}"
        except Exception as error:
            _log.exception("a handover failed")
            words = f"this agent failed: {error!r}"
        self._say_no(words)
        self.settled.set()
        self.stands.set()
        with self._lock:
            self._is_over = True
            is_known = self._is_dropped or bool(self._arrived_at)
        moved = self._site.connections.moved(self._vm)
        self._account = msgspec.structs.replace(
            self._account,
            connections_moved=moved.moved,
            connections_refused=moved.refused,
            handover=words,
            seconds=round(time.monotonic() - began, 3),
            bytes=self._bytes,
        )
        if is_known:
            self._settle()
        finished(self._account)

    def _settle(self) -> None:
        """Once the handover is over and it is known whether the VM came: go on from what was taken, or forget it."""
        known = [section for section in self._site.sections if section.name in self._taken]
        try:
            for section in known:
                if self._is_dropped:
                    section.drop(self._vm)
                else:
                    section.keep(self._vm)
            if not self._is_dropped:
                self._site.carried.keep(self._vm, self._own_epoch, self._strange())
        except (StateFailed, ShieldFailed) as error:
            _log.warning("what was handed over was not kept", error=str(error))
        self._taken = {}

    def _take_all(self) -> str:
        channel, refusal = self._find()
        self.settled.set()
        if refusal:
            return f"the source refused: {refusal[:300]}"
        if not self.ready.wait(_TAPS_SECONDS):
            return "the VM's interfaces did not come"
        if self._is_dropped:
            return "the VM did not come"
        if self._site.vm_of(self._uuid) != self._vm:
            return "the residence that it carries is another VM's"
        channel.send(Give(), Deadline(_BUNDLE_SECONDS))
        while True:
            began = time.monotonic()
            bundle = self._take_one(channel)
            self.stands.set()
            if bundle.is_final:
                return WHOLE if not self._refused else in_part(self._refused)
            # A source that is loud gets a quarter of a core at most; before the guest runs here, nobody waits for it.
            time.sleep(min((time.monotonic() - began) * _IDLE_SHARE, 1.0))

    def _find(self) -> tuple[Channel, str]:
        """Ask the host whose residence the VM carries, and if it has gone on from there, the next one."""
        for _ in range(_MAX_HOPS):
            channel = self._channel = self._connect()
            welcome = self._greet(channel)
            self._take_policy(channel, welcome)
            further = self._site.member(welcome.went) if welcome.refusal and welcome.went else None
            if further is None or further.id == self._site.host:
                return channel, welcome.refusal
            channel.close()
            self._member = further
            self._expected = msgspec.structs.replace(self._expected, source=further.id)
            self._account = msgspec.structs.replace(self._account, origin=further.id)
        return channel, "the VM has gone on too often"

    def _connect(self) -> Channel:
        key = public_bytes(key_from_text(self._member.public_key))
        return connect(self._site.identity, (self._member.fabric, self._site.port), key, Deadline(_CONNECT_SECONDS))

    def _greet(self, channel: Channel) -> Welcome:
        believer = self._site.believer
        expected = self._expected
        hello = Hello(
            VERSION,
            self._vm,
            self._uuid,
            self._carried,
            expected.nonce,
            believer.belief.revision,
            believer.issuers_version,
        )
        channel.send(hello, Deadline(_CONNECT_SECONDS))
        welcome = channel.receive(Deadline(_GREETING_SECONDS), MAX_WELCOME)
        if isinstance(welcome, Refused):
            raise ChannelFailed(f"the source refused: {welcome.why[:300]}")
        if not isinstance(welcome, Welcome):
            raise ChannelFailed("the source does not greet")
        self._account = msgspec.structs.replace(
            self._account, task=welcome.task[:64], actor=welcome.actor[:256], stays=welcome.stays
        )
        return welcome

    def _take_policy(self, channel: Channel, welcome: Welcome) -> None:
        """What is newer there and signed by the pool; what does not verify leaves this host as it was."""
        try:
            if welcome.issuers:
                self._site.believer.take_issuers(welcome.issuers)
            if welcome.manifest:
                deadline = Deadline(_POLICY_SECONDS)
                self._site.believer.borrow_manifest(
                    welcome.manifest, lambda wanted: self._fetch(channel, wanted, deadline)
                )
        except (Untrusted, StateFailed) as error:
            _log.warning("the source's policy was not taken", source=self._member.name, error=str(error))

    def _fetch(self, channel: Channel, wanted: frozenset[Digest], deadline: Deadline) -> Mapping[Digest, bytes]:
        found: dict[Digest, bytes] = {}
        digests, size = sorted(wanted), 0
        for start in range(0, len(digests), MAX_WANTED):
            part = tuple(digests[start : start + MAX_WANTED])
            channel.send(Want(part), deadline)
            for digest in part:
                content = found[digest] = channel.receive_bytes(MAX_OBJECT, deadline)
                size += len(content)
                if digest_of(content) != digest or size > MAX_BYTES:
                    raise Untrusted(f"an object that is not {digest}, or too many")
        return found

    def _take_one(self, channel: Channel) -> Bundle:
        message = channel.receive(_Patience(self.patience, _QUIET_SECONDS))
        if isinstance(message, Refused):
            raise ChannelFailed(f"the source says: {message.why[:300]}")
        if not isinstance(message, Handed):
            raise ChannelFailed("the source talks out of turn")
        source = self._site.member(self._member.id)
        if source != self._member:
            raise Untrusted("the source is no member any more")
        bundle = read_bundle(message.statement, source, self._expected)
        if len({*self._account.sections, *bundle.sections}) > MAX_SECTIONS:
            raise Untrusted("the handover is of too many sections")
        deadline = _Patience(self.patience, _BUNDLE_SECONDS)
        bodies = {name: channel.receive_bytes(MAX_BODY, deadline) for name in sorted(bundle.sections)}
        contents = check_bodies(bundle, bodies)
        self._bytes += sum(len(body) for body in bodies.values())
        if self._bytes > _MAX_TOTAL:
            raise ChannelFailed("the source gives without end")
        self._take_contents(contents)
        self._expected = msgspec.structs.replace(self._expected, serial=bundle.serial)
        moved, refused = self._site.connections.counts(self._vm)
        self._account = msgspec.structs.replace(
            self._account,
            epoch=bundle.epoch,
            serial=bundle.serial,
            binding_before=bundle.binding,
            sections=tuple(sorted({*self._account.sections, *contents})),
        )
        channel.send(Taken(bundle.serial, moved, refused), deadline)
        return bundle

    def _take_contents(self, contents: Mapping[str, Content]) -> None:
        known = {section.name: section for section in self._site.sections}
        for name, content in contents.items():
            if name in self._refused:
                continue
            if name not in known:
                self._hold(name, content)
                continue
            if not self._is_dropped:
                try:
                    known[name].take(self._vm, content)
                except BadSection as error:
                    self._refused[name] = f"refused: {error}"  # what it gave before stands
                    continue
            self._taken[name] = Content(content.version, b"")

    def _hold(self, name: str, content: Content) -> None:
        """A section that no room here knows: no more of them than can be carried on."""
        others = {each: held for each, held in self._strange().items() if each != name}
        if has_room(others, content):
            self._taken[name] = content
        else:
            self._refused[name] = "no room to carry it on"

    def _strange(self) -> dict[str, Content]:
        names = {section.name for section in self._site.sections}
        return {name: content for name, content in self._taken.items() if name not in names}

    def _say_no(self, words: str) -> None:
        if self._channel is None:
            return
        if words != WHOLE:
            try:
                self._channel.send(Refused(words), Deadline(1.0))
            except ChannelFailed:
                _log.info("the source was not told", why=words)
        self._channel.close()


class _Patience(Deadline):
    """Ends when ``left`` says so: as long as a migration may last, or a short time once the VM has arrived."""

    def __init__(self, left: Callable[[], float], seconds: float) -> None:
        super().__init__(seconds)
        self._left = left

    @property
    def left(self) -> float:
        return min(super().left, _positive(self._left()))


def _positive(left: float) -> float:
    if left <= 0:
        raise ChannelFailed("the source did not say that it was done")
    return left
