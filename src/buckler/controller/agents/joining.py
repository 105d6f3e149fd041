"""How a host becomes a member and proves that it is one: ca, join, nonce, token."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets

from litestar import get, post
from litestar.handlers import BaseRouteHandler

from buckler.controller.agents.callers import NONCE, SESSION, AnyRequest, failure, refuse_throttled
from buckler.controller.parts import Parts
from buckler.controller.pool_state import State, load_state
from buckler.controller.problems import Refused
from buckler.controller.tokens import JoinText, Sealed, parse_join, seal, secret_digest, unseal
from buckler.model.agentapi import (
    CaCertificate,
    JoinRequest,
    JoinResponse,
    NonceRequest,
    NonceResponse,
    TokenRequest,
    TokenResponse,
)
from buckler.model.event import Event, EventKind
from buckler.model.ids import HostId
from buckler.model.pool import Host, HostState
from buckler.policy.pool import link_local_address
from buckler.policy.prefix import address_of, network_of
from buckler.ports.roster import HostRecord, JoinTokenRecord
from buckler.ports.store import Unit
from buckler.trust.statement import Kind, Untrusted, key_from_text, key_id, key_text, verify

_NONCE_LIFETIME = 60.0
_BODY = 16 * 1024
_NAME_LENGTH = 63
_ADDRESSES = 64
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
# Other hosts' libvirtd opens it as root: no transport that runs programs, no parameter that names one.
_MIGRATE_URI = re.compile(
    r"qemu\+(tcp|tls|ssh)://([a-z0-9_][a-z0-9_-]{0,31}@)?"
    r"([A-Za-z0-9][-A-Za-z0-9.]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?/system\Z"
)


def joining_routes(parts: Parts) -> list[BaseRouteHandler]:
    """The four routes that need no session token."""

    @get("/agent/v1/ca", sync_to_thread=False)
    def ca() -> CaCertificate:
        return CaCertificate(certificate=parts.keys.ca_pem)

    @post("/agent/v1/join", status_code=200, sync_to_thread=True, request_max_body_size=_BODY)
    def join(request: AnyRequest, data: JoinRequest) -> JoinResponse:
        refuse_throttled(parts, request)
        text = parse_join(data.token)
        if text is None or text.ca_digest != parts.keys.ca_digest:
            raise failure(parts, request, 401, "the join token is not valid")
        problems = check_join(data)
        if problems:
            raise Refused(400, "the host's description cannot be used", "; ".join(problems))
        with parts.store.write() as unit:
            host, is_new = _admit(parts, unit, text, data)
            issuers = unit.keys.issuers()[-1].statement
        if host is None:
            raise failure(parts, request, 401, "the join token is not valid")
        if is_new:
            parts.work.ring()
        return JoinResponse(
            pool=parts.settings.pool,
            host=host,
            root_key=key_text(parts.keys.root.public_key()),
            issuers=issuers,
            ca_certificate=parts.keys.ca_pem,
        )

    @post("/agent/v1/nonce", status_code=200, sync_to_thread=False, request_max_body_size=_BODY)
    def nonce(request: AnyRequest, data: NonceRequest) -> NonceResponse:
        # Given to whoever asks, known host or not: it tells nothing and costs nothing to keep.
        refuse_throttled(parts, request)
        content = Sealed(NONCE, HostId(data.host[:64]), parts.clock() + _NONCE_LIFETIME, secrets.token_urlsafe(16))
        return NonceResponse(nonce=seal(content, parts.keys.session))

    @post("/agent/v1/token", status_code=200, sync_to_thread=True, request_max_body_size=_BODY)
    def token(request: AnyRequest, data: TokenRequest) -> TokenResponse:
        refuse_throttled(parts, request)
        record = _prove(parts, data)
        if record is None:
            raise failure(parts, request, 401, "the statement does not prove the host")
        if record.host.state is HostState.REVOKED:
            raise Refused(403, "this host was revoked")
        lifetime = parts.settings.token_lifetime
        content = Sealed(SESSION, record.host.id, parts.clock() + lifetime, secrets.token_urlsafe(16))
        parts.presence.hear(record.host.id, parts.clock())
        return TokenResponse(token=seal(content, parts.keys.session), expires_in=lifetime)

    return [ca, join, nonce, token]


def check_join(request: JoinRequest) -> tuple[str, ...]:
    """Say everything that is wrong with a host's description of itself."""
    problems = []
    letters = set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    name = request.name
    if not name or len(name) > _NAME_LENGTH or not set(name.lower()) <= letters or name.startswith((".", "-")):
        problems.append("name: not a host name")
    elif _ID.match(name):
        problems.append("name: has the form of an id, which names another host")
    try:
        key_from_text(request.public_key)
    except Untrusted as error:
        problems.append(f"public_key: {error}")
    if len(request.addresses) > _ADDRESSES:
        problems.append("addresses: too many")
    if request.migrate_uri and not _MIGRATE_URI.match(request.migrate_uri):
        problems.append("migrate_uri: not of the form qemu+tls://HOST[:PORT]/system (or qemu+tcp, qemu+ssh)")
    for place, address in (
        ("fabric", request.fabric),
        *(("addresses", each) for each in request.addresses[:_ADDRESSES]),
    ):
        why = _unfit(address)
        if why:
            problems.append(f"{place}: {address[:64]!r} {why}")
    return tuple(problems)


def _unfit(address: str) -> str:
    """Say why no host can have an address; empty when one can. Every host of the pool keeps its guests from it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "is no IP address"
    if isinstance(parsed, ipaddress.IPv6Address) and (parsed.ipv4_mapped or parsed.scope_id):
        return "is IPv4, or belongs to one link only"
    if parsed.is_multicast or parsed.is_unspecified or parsed == ipaddress.IPv4Address("255.255.255.255"):
        return "is no host's"
    return ""


def refuse_taken(state: State, request: JoinRequest) -> None:
    """Refuse addresses that are VMs' or services', or reach whole networks: whoever joins must not cut them off. Raises Refused."""
    owners = {
        address_of(address): f"VM {each.vm.name}'s"
        for each in state.registered
        for card in each.vm.interfaces
        for address in (*card.addresses, link_local_address(card.mac))
    }
    owners |= {address_of(each.address): f"service {each.name}'s virtual address" for each in state.pool.services}
    for network in state.pool.networks:
        for cidr in map(network_of, network.cidrs):
            if isinstance(cidr, ipaddress.IPv4Network) and cidr.prefixlen < 31:
                owners[cidr.broadcast_address] = f"the broadcast address of network {network.name}"
    claimed = dict.fromkeys((request.fabric, *request.addresses))
    taken = [f"{address} is {owners[address_of(address)]}" for address in claimed if address_of(address) in owners]
    if taken:
        raise Refused(409, "addresses of the host are not its own", "; ".join(taken))


def _admit(parts: Parts, unit: Unit, text: JoinText, request: JoinRequest) -> tuple[HostId | None, bool]:
    """Use the token and make the host a member, or say who it is already. Raises Refused for a taken name or key."""
    token = unit.join_tokens.get(text.id)
    now = parts.clock()
    if token is None or not hmac.compare_digest(token.digest, secret_digest(text.secret)) or now >= token.expires_at:
        return None, False
    if token.host_name and token.host_name != request.name:
        return None, False
    if token.used_at:
        return _repeated(unit, token, request), False
    for other in unit.hosts.all():
        if other.host.public_key == request.public_key:
            raise Refused(409, "a host with this key has joined before")
        if other.host.name.lower() == request.name.lower() and other.host.state is not HostState.REVOKED:
            raise Refused(409, "a host of this name is a member", "revoke it first, or join by another name")
    refuse_taken(load_state(unit), request)
    host = Host(
        id=HostId(parts.new_id()),
        name=request.name,
        public_key=request.public_key,
        fabric=request.fabric,
        addresses=tuple(dict.fromkeys((request.fabric, *request.addresses))),
        migrate_uri=request.migrate_uri,
    )
    unit.hosts.put(HostRecord(host=host, joined_at=now, seen_at=now))
    unit.join_tokens.put(_used(token, host.id, now))
    detail = {"name": host.name, "fabric": host.fabric, "token": token.id, "public_key": host.public_key}
    parts.record(unit, Event(EventKind.HOST_JOINED, now, host=host.id, actor=token.created_by, detail=detail))
    return host.id, True


def _repeated(unit: Unit, token: JoinTokenRecord, request: JoinRequest) -> HostId | None:
    """Answer the same host again: the answer to its first request may have been lost. Nobody else has its key."""
    record = unit.hosts.get(HostId(token.used_by))
    if record is None or record.host.state is HostState.REVOKED:
        return None
    is_same = (record.host.public_key, record.host.name) == (request.public_key, request.name)
    return record.host.id if is_same else None


def _used(token: JoinTokenRecord, host: HostId, at: float) -> JoinTokenRecord:
    return JoinTokenRecord(token.id, token.digest, token.host_name, token.expires_at, token.created_by, at, host)


def _prove(parts: Parts, request: TokenRequest) -> HostRecord | None:
    """Return the host that signed a fresh nonce of ours; None when anything does not fit."""
    with parts.store.read() as unit:
        record = unit.hosts.get(request.host)
    if record is None:
        return None
    key = key_from_text(record.host.public_key)
    try:
        nonce = verify(Kind.NONCE, request.statement, {key_id(key): key}).decode("ascii")
    except (Untrusted, UnicodeDecodeError):
        return None
    content = unseal(nonce, NONCE, parts.keys.session, parts.clock())
    if content is None or content.host != request.host:
        return None
    with parts.store.write() as unit:
        return record if unit.nonces.use(content.unique, content.expires_at, parts.clock()) else None
