"""What may be sent between whom, and why, over the operator API. Owns the form of the answer, not the judgement."""

from __future__ import annotations

import msgspec

from buckler.model.operatorapi.body import Answer
from buckler.model.pool import ShieldMode


class Step(Answer, frozen=True):
    """One rule that was considered, in order. ``outcome`` in words: ``decides``, ``observed only`` and the like."""

    tier: str
    policy: str
    rule: str
    action: str
    outcome: str
    file: str = ""
    line: int = 0


class Side(Answer, frozen=True):
    """What one end's shield does. ``policy`` empty: nothing matched, denied by default. ``text`` says it in words.

    ``verdict``: allow, deny, or reject, which denies and answers. ``until``: when an allowance ends by what is written
    now (Unix seconds; 0: never). ``staged``: what the staged draft would say; empty: no staged rule stands here.

    ``at``: ``host`` or ``edge`` where the shield enforces what policies say at that end.
    """

    vm: str
    direction: str
    verdict: str
    text: str
    tier: str = ""
    policy: str = ""
    rule: str = ""
    file: str = ""
    line: int = 0
    steps: tuple[Step, ...] = ()
    mode: ShieldMode = ShieldMode.ENFORCE
    until: int = 0
    staged: str = ""
    at: str = ""


class ExplainedPath(Answer, frozen=True):
    """One pair of interfaces that share a network, or a VM's interface and an outside peer. ``sides``: egress, ingress."""

    network: str
    origin: str = msgspec.field(name="from")
    to: str
    verdict: str
    sides: tuple[Side, ...]


class ExplainedMember(Answer, frozen=True):
    """A VM that serves at a virtual address, by an address of its own."""

    vm: str
    address: str


class ExplainedService(Answer, frozen=True):
    """Whose virtual address was asked about. ``left_out``: how many more serve than a shield can choose among."""

    name: str
    tenant: str
    network: str
    address: str
    members: tuple[ExplainedMember, ...] = ()
    left_out: int = 0


class Explanation(Answer, frozen=True):
    """``verdict`` is ``allow`` when some path allows. No path: ``text`` says why (no network in common).

    ``services``: whose virtual address ``to`` is; the paths are then those to each of their members.
    """

    origin: str = msgspec.field(name="from")
    to: str
    protocol: str
    port: int
    verdict: str
    text: str
    paths: tuple[ExplainedPath, ...] = ()
    services: tuple[ExplainedService, ...] = ()


class PortRange(Answer, frozen=True, omit_defaults=True):
    """``protocol`` TCP, UDP, SCTP, ICMP, ICMPv6, ``other`` (none of these), or ``any``; ``port`` to ``endPort``, both included.

    For ICMP type << 8 | code. 0 to 65535: all.
    """

    protocol: str
    port: int = 0
    end_port: int = 65535


class Outside(Answer, frozen=True, omit_defaults=True):
    """Addresses outside the pool: prefixes, but those in ``except``."""

    blocks: tuple[str, ...]
    excluded: tuple[str, ...] = msgspec.field(name="except", default=())


class ReachPair(Answer, frozen=True):
    """What may be sent from one to another, both ends' shields considered. Empty: nothing.

    An end is a VM, an endpoint, ``host`` (the gateway that the host serves), ``world`` (every address
    outside has this answer), or those addresses outside that have this answer.
    """

    origin: str | Outside = msgspec.field(name="from")
    to: str | Outside
    allowed: tuple[PortRange, ...] = ()


class PolicyFinding(Answer, frozen=True):
    """Something odd about a rule, a policy or a VM. ``kind`` as in ``policy.questions``; ``text`` says it in words."""

    kind: str
    subject: str
    text: str
    file: str = ""
    line: int = 0


class NameAnswer(Answer, frozen=True):
    """An address that a VM was told for a name. Opens it to the VMs of ``network`` whose policies mean the name, until ``until``."""

    name: str
    address: str
    network: str
    tenant: str = ""
    vm: str = ""
    resolver: str = ""
    at: float = 0
    until: float = 0


class UnusedRule(Answer, frozen=True):
    """A rule that met no packet since ``since`` (Unix time; 0: not known). ``packets``: what it counted before that.

    ``known`` False: it is not known for all of the days that were asked for; ``text`` says why.
    """

    kind: str
    tenant: str
    policy: str
    rule: str
    text: str
    since: float = 0
    packets: int = 0
    known: bool = True
    file: str = ""
    line: int = 0


class UnusedRules(Answer, frozen=True):
    """``unheard``: hosts that are silent: what they counted since is missing."""

    days: int
    rules: tuple[UnusedRule, ...] = ()
    unheard: tuple[str, ...] = ()


class Reach(Answer, frozen=True):
    """Of ``vms`` (with ``host`` and ``world``) every ordered pair that was asked for occurs once, with ``world`` once for each answer.

    ``notes``: what of the addresses that were asked for is not outside.
    """

    revision: int
    vms: tuple[str, ...]
    pairs: tuple[ReachPair, ...]
    notes: tuple[str, ...] = ()
