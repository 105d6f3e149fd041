"""One handover at the source: whom it is given to, and giving until the VM has stopped. Judges nothing that it gives."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec
import structlog

from buckler.agent.handover.account import STAYS, WHOLE, Account, in_part
from buckler.agent.handover.bundle import Bundle, seal, sign_bundle
from buckler.agent.handover.channel import Channel, ChannelFailed, Deadline
from buckler.agent.handover.departures import Departures, Phase
from buckler.agent.handover.section import Content, Section
from buckler.agent.handover.site import Site
from buckler.agent.handover.talk import (
    MAX_WANTED,
    VERSION,
    Give,
    Handed,
    Hello,
    Message,
    Refused,
    Taken,
    Want,
    Welcome,
)
from buckler.model.bundle import Member
from buckler.model.ids import Digest, HostId, VmId
from buckler.policy.walk import MAX_BYTES
from buckler.ports.hypervisor import HypervisorFailed
from buckler.ports.shield import ShieldFailed
from buckler.ports.state import StateFailed

_log = structlog.get_logger()
_HELLO_SECONDS = 3.0
_POLICY_SECONDS = 30.0
_READY_SECONDS = 60.0
_BUNDLE_SECONDS = 20.0
_FINAL_SECONDS = 3.0
_PACE_SECONDS = 0.1
_IDLE_SHARE = 4
_ASK_SECONDS = 5.0
_NEWS_SECONDS = 2.0


class Notice(msgspec.Struct, frozen=True):
    """``begun`` is called once for a VM that is given, and what it returns at the end; ``went`` knows where one was given earlier."""

    begun: Callable[[str], Callable[[Account], None]]
    went: Callable[[VmId], HostId | None]


class Giver:
    """Runs in the thread of its connection."""

    def __init__(
        self,
        site: Site,
        departures: Departures,
        member: Member,
        channel: Channel,
        notice: Notice,
    ) -> None:
        self._site = site
        self._departures = departures
        self._member = member
        self._channel = channel
        self._notice = notice
        self._serial = 0
        self._bytes = 0
        self._told: dict[str, Content] = {}
        self._missing: dict[str, str] = {}
        self._account = Account(origin=site.host, destination=member.id)

    def run(self) -> None:
        """Until the VM has left, stays, or the other side goes. Raises ChannelFailed for a member that talks out of turn."""
        hello = self._channel.receive(Deadline(_HELLO_SECONDS))
        if not isinstance(hello, Hello) or hello.version != VERSION:
            raise ChannelFailed("no greeting of a handover")
        refusal = self._why_not(hello)
        with self._site.believer.holding():
            self._welcome(hello, refusal)
            is_ready = self._serve_policy()
        if not is_ready or refusal:
            return
        began = time.monotonic()
        with self._departures.follow(hello.uuid):
            words = self._why_not_leaving(hello.uuid)
            if not words:
                ended = self._notice.begun(hello.uuid)
                words = self._give_all(hello)
                seconds = round(time.monotonic() - began, 3)
                account = msgspec.structs.replace(
                    self._account, serial=self._serial, bytes=self._bytes, seconds=seconds, handover=words
                )
                ended(account)
        if words != WHOLE:
            self._refuse(words)

    def _give_all(self, hello: Hello) -> str:
        try:
            return self._give(hello)
        except (ChannelFailed, ShieldFailed, HypervisorFailed, StateFailed) as error:
            return str(error)
        except Exception as error:
            _log.exception("a handover failed")
            return f"this agent failed: {error!r}"

    def _why_not(self, hello: Hello) -> str:
        """Only to somebody who shows what libvirt gives to a destination alone: the domain, by its residence."""
        facts, stay = self._site.facts(hello.uuid), self._site.stay(hello.vm)
        if facts is None or stay is None or stay.host != self._site.host or self._site.vm_of(hello.uuid) != hello.vm:
            return "the VM is not here"
        shown = (facts.residence, self._site.statement(hello.vm))
        if not any(one and hmac.compare_digest(one.encode(), hello.residence.encode()) for one in shown):
            return "what it shows of the VM is not what the VM carries"
        self._account = msgspec.structs.replace(
            self._account, vm=hello.vm, epoch=stay.epoch, binding_before=self._site.binding(hello.vm)
        )
        return ""

    def _stays(self, hello: Hello) -> bool:
        """Libvirt itself says that the VM is here and goes nowhere; in doubt it does not."""
        if self._site.facts(hello.uuid) is None or self._site.vm_of(hello.uuid) != hello.vm:
            return False
        try:
            return not self._site.hypervisor.is_leaving(hello.uuid)
        except HypervisorFailed:
            return False

    def _why_not_leaving(self, uuid: str) -> str:
        try:
            return "" if self._site.hypervisor.is_leaving(uuid) else "libvirt moves no such VM away from here"
        except HypervisorFailed as error:
            return str(error)

    def _welcome(self, hello: Hello, refusal: str) -> None:
        believer = self._site.believer
        revision = believer.belief.revision
        task, actor = ("", "") if refusal else self._site.order(hello.vm)
        self._account = msgspec.structs.replace(self._account, task=task, actor=actor)
        welcome = Welcome(
            revision,
            issuers=believer.issuers() if believer.issuers_version > hello.issuers else "",
            manifest=believer.newest() if revision > hello.revision else "",
            refusal=refusal,
            stays=self._stays(hello),
            went=self._notice.went(hello.vm) or HostId("") if refusal else HostId(""),
            task=task,
            actor=actor,
        )
        self._channel.send(welcome, Deadline(_BUNDLE_SECONDS))

    def _serve_policy(self) -> bool:
        """Objects until the other side is ready for the VM's own. False when it wants no more."""
        sent = 0
        deadline, ready = Deadline(_POLICY_SECONDS), Deadline(_READY_SECONDS)
        while True:
            message = self._channel.receive(ready)
            if isinstance(message, Give):
                return True
            if not isinstance(message, Want) or len(message.digests) > MAX_WANTED:
                return False
            objects = self._objects(message.digests)
            for digest in message.digests:
                content = objects.get(digest)
                if content is None:
                    raise ChannelFailed("it wants an object that is not here")
                sent += len(content)
                if sent > MAX_BYTES:
                    raise ChannelFailed("it wants too much")
                self._channel.send_bytes(content, deadline)

    def _objects(self, wanted: Iterable[Digest]) -> Mapping[Digest, bytes]:
        try:
            return self._site.believer.objects(frozenset(wanted))
        except StateFailed as error:
            raise ChannelFailed(str(error)) from error

    def _give(self, hello: Hello) -> str:
        """Bulk, then what changed, then the last once the VM has stopped. Returns ``whole`` or why it is not."""
        changes = self._site.connections.follow(hello.vm)
        asked = time.monotonic()
        while True:
            phase = self._departures.phase(hello.uuid)
            began = time.monotonic()
            if phase is Phase.STAYED:
                return STAYS
            if self._site.member(self._member.id) != self._member:
                return "the destination is no member any more"
            is_final = phase is not Phase.RUNNING
            try:
                contents = self._contents(hello.vm, changes, is_final=is_final)
            except ShieldFailed:
                # The tap can be gone before libvirt's word for it is here: a VM that was paused stops without one.
                if is_final or self._departures.wait(hello.uuid, _NEWS_SECONDS) is Phase.RUNNING:
                    raise
                continue
            self._hand(hello, contents, is_final=is_final)
            if is_final:
                return WHOLE if not self._missing else in_part(self._missing)
            if began - asked > _ASK_SECONDS:
                asked = began
                if self._departures.phase(hello.uuid) is Phase.RUNNING and (why := self._why_not_leaving(hello.uuid)):
                    return why
            self._departures.wait(hello.uuid, max(_PACE_SECONDS, _IDLE_SHARE * (time.monotonic() - began)))

    def _contents(self, vm: VmId, changes: Callable[[], bytes], *, is_final: bool) -> dict[str, Content]:
        """Everything at first; afterwards what is not as it was told."""
        contents: dict[str, Content] = {}
        try:
            connections = changes()
            if connections or not self._serial:
                contents["connections"] = Content(self._site.connections.version, connections or bytes(2))
        except ShieldFailed:
            if not is_final:
                raise  # once the VM has gone its taps may be too: what was told before is the newest then
        for section in self._site.sections:
            if section is not self._site.connections:
                contents.update(self._ask(section, vm))
        if not self._serial:
            contents = {**self._site.carried.sections(vm), **contents}
        new = {name: content for name, content in contents.items() if self._told.get(name) != content}
        self._told.update({name: content for name, content in new.items() if name != "connections"})
        return new

    def _ask(self, section: Section, vm: VmId) -> dict[str, Content]:
        """One room that cannot say its part keeps no other's back."""
        try:
            content = Content(section.version, section.give(vm))
        except (ShieldFailed, HypervisorFailed, StateFailed) as error:
            self._missing[section.name] = str(error)
            return {}
        self._missing.pop(section.name, None)
        return {section.name: content}

    def _hand(self, hello: Hello, contents: dict[str, Content], *, is_final: bool) -> None:
        if self._serial and not contents and not is_final:
            return
        self._serial += 1
        bundle = Bundle(
            vm=hello.vm,
            source=self._site.host,
            destination=self._member.id,
            nonce=hello.nonce,
            epoch=self._account.epoch,
            serial=self._serial,
            revision=self._site.believer.belief.revision,
            binding=self._site.binding(hello.vm),
            is_final=is_final,
            sections=seal(contents),
        )
        deadline = Deadline(_FINAL_SECONDS if is_final else _BUNDLE_SECONDS)
        self._channel.send(Handed(sign_bundle(bundle, self._site.key)), deadline)
        for name in sorted(contents):
            self._channel.send_bytes(contents[name].body, deadline)
            self._bytes += len(contents[name].body)
        self._note(self._channel.receive(deadline), contents)

    def _note(self, answer: Message, contents: dict[str, Content]) -> None:
        if isinstance(answer, Refused):
            raise ChannelFailed(f"the destination refused: {answer.why[:300]}")
        if not isinstance(answer, Taken) or answer.serial != self._serial:
            raise ChannelFailed("the destination answered out of turn")
        refused = {"refused there": answer.refused} if answer.refused else {}
        self._account = msgspec.structs.replace(
            self._account,
            connections_moved=answer.moved,
            connections_refused=refused,
            sections=tuple(sorted({*self._account.sections, *contents})),
        )

    def _refuse(self, words: str) -> None:
        try:
            self._channel.send(Refused(words), Deadline(1.0))
        except ChannelFailed:
            _log.info("the destination was not told", why=words)
