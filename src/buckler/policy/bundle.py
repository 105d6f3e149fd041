"""Pool and resolved policy → what hosts enforce: segments and programs, as one value. Cuts nothing into objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from buckler.model.bundle import CidrIdentity, Endpoint, Member, RuleName, Segment, VirtualService
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import IDENTITY_GROUP, IDENTITY_INFRA, IDENTITY_WORLD, Digest, IdentityNumber
from buckler.model.pool import Host, HostState, Network
from buckler.model.program import Program
from buckler.policy.compile import Resolved, compile_program, resolve_pool
from buckler.policy.language import Document
from buckler.policy.pool import Numbers, Pool, Station, Visitor, identity_key, singled_out, stations, visitors
from buckler.policy.prefix import ALL_IPV4, broadcast_prefixes, host_prefix
from buckler.policy.serving import key_of, list_members, services_in


class Bundle(msgspec.Struct, frozen=True):
    """One state of the whole pool as hosts enforce it. Plain values: it may be stored and read back as JSON."""

    segments: tuple[Segment, ...] = ()
    programs: dict[Digest, Program] = {}
    rules: tuple[RuleName, ...] = ()
    outside: dict[str, IdentityNumber] = {}
    """What prefixes mean in every segment, unless it says otherwise."""

    def is_same(self, other: Bundle) -> bool:
        """Say whether packets see no difference: what ``digest`` names is the same."""
        return self.segments == other.segments and self.programs.keys() == other.programs.keys()

    def digest(self) -> Digest:
        """Name everything that bears on packets (the names of rules do not)."""
        return digest_of(canonical_bytes((self.segments, sorted(self.programs))))


def build_bundle(pool: Pool, documents: Iterable[Document], numbers: Numbers) -> Bundle:
    """Build what is wanted. Every number must be there (``missing_numbers`` gave nothing)."""
    documents = tuple(documents)
    resolved = resolve_pool(pool, documents, numbers)
    singled = singled_out(documents)
    return assemble_bundle(pool, stations(pool, singled), visitors(pool, singled), resolved, numbers)


def assemble_bundle(
    pool: Pool, found: Iterable[Station], guests: Iterable[Visitor], resolved: Resolved, numbers: Numbers
) -> Bundle:
    """Build a bundle of what is resolved already."""
    found = tuple(found)
    shielded = {numbers.identities[identity_key(station.labels)] for station in found}
    programs: dict[Digest, Program] = {}
    digests: dict[IdentityNumber, Digest] = {}
    for number in sorted(shielded):
        program = compile_program(resolved.programs[number])
        digests[number] = program_digest(program)
        programs[digests[number]] = program
    by_network: dict[str, list[Station]] = {}
    for station in found:
        by_network.setdefault(station.network.name, []).append(station)
    visiting: dict[str, dict[str, IdentityNumber]] = {}
    for visitor in guests:
        number = numbers.identities[identity_key(visitor.labels)]
        visiting.setdefault(visitor.network.name, {}).update(dict.fromkeys(visitor.outsider.addresses, number))
    outside = outside_table(pool, {prefix: numbers.cidrs[prefix] for prefix in resolved.prefixes})
    segments = tuple(
        msgspec.structs.replace(
            _segment(
                network, by_network.get(network.name, []), visiting.get(network.name, {}), numbers, digests, outside
            ),
            services=_services(pool, network, by_network.get(network.name, []), numbers),
        )
        for network in sorted(pool.networks, key=lambda each: each.zone)
    )
    rules = tuple(
        RuleName(number, rule.policy, rule.name, rule.tier.value) for number, rule in sorted(resolved.rules.items())
    )
    return Bundle(segments, programs, rules, outside)


def program_digest(program: Program) -> Digest:
    """Name a program by its canonical content."""
    return digest_of(canonical_bytes(program))


def build_members(hosts: Iterable[Host]) -> tuple[Member, ...]:
    """List the hosts as the others see them; revoked ones are no members."""
    return tuple(
        Member(each.id, each.name, each.public_key, each.fabric, each.addresses, each.migrate_uri)
        for each in sorted(hosts, key=lambda each: each.id)
        if each.state is not HostState.REVOKED
    )


def _segment(
    network: Network,
    found: list[Station],
    guests: Mapping[str, IdentityNumber],
    numbers: Numbers,
    digests: Mapping[IdentityNumber, Digest],
    outside: Mapping[str, IdentityNumber],
) -> Segment:
    endpoints = []
    identities: dict[str, IdentityNumber] = dict(guests)
    for station in sorted(found, key=lambda each: each.interface.mac):
        number = numbers.identities[identity_key(station.labels)]
        endpoints.append(_endpoint(station, number, digests[number]))
        identities |= dict.fromkeys(station.addresses, number)
    return Segment(
        network=network.name,
        zone=network.zone,
        tenant=network.tenant,
        bridge=network.bridge,
        vlan=network.vlan,
        cidrs=network.cidrs,
        dhcp_servers=network.dhcp_servers,
        routers=network.routers,
        gateway=network.gateway,
        endpoints=tuple(endpoints),
        identities=identities,
        cidr_identities=_cidr_identities(network, outside),
        resolvers=network.resolvers,
        names=network.names,
    )


def _services(pool: Pool, network: Network, found: list[Station], numbers: Numbers) -> tuple[VirtualService, ...]:
    here = [each for each in pool.services if each.network == network.name]
    told = {key_of(each): (each, list_members(each, found)) for each in here}
    return services_in(network, told, numbers.services.__getitem__) if told else ()


def _endpoint(station: Station, number: IdentityNumber, program: Digest) -> Endpoint:
    vm = station.vm
    return Endpoint(
        vm=vm.id,
        number=vm.number,
        name=vm.name,
        tenant=vm.tenant,
        uuid=vm.uuid,
        mac=station.interface.mac,
        addresses=station.addresses,
        identity=number,
        program=program,
        mode=vm.mode,
        connections=vm.connections or station.network.connections,
    )


def infra_prefixes(pool: Pool) -> frozenset[str]:
    """Name every host's addresses, those of revoked ones too: who lost a host's key has not lost its wires."""
    hosts = {each for host in pool.hosts for each in (host.fabric, *host.addresses) if each}
    served = {each for network in pool.networks for each in network.gateway}
    return frozenset(map(host_prefix, hosts - served))


def outside_table(pool: Pool, prefixes: Mapping[str, IdentityNumber]) -> dict[str, IdentityNumber]:
    """Name every prefix outside: policies', hosts', and all of IPv4, which ``::/0`` would else swallow."""
    return {ALL_IPV4: IDENTITY_WORLD, **prefixes, **dict.fromkeys(infra_prefixes(pool), IDENTITY_INFRA)}


def _cidr_identities(network: Network, outside: Mapping[str, IdentityNumber]) -> tuple[CidrIdentity, ...]:
    """Name all prefixes. An address that somebody has stands before them, whatever they say."""
    entries = {**outside, **dict.fromkeys(broadcast_prefixes(network.cidrs), IDENTITY_GROUP)}
    return tuple(CidrIdentity(prefix, entries[prefix]) for prefix in sorted(entries))
