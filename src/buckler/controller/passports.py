"""Passports of VMs and the keys that vouch for them. Owns the claims, not who gets to carry them."""

from __future__ import annotations

from functools import lru_cache

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.controller.parts import Parts
from buckler.model.agentapi import Issuers
from buckler.model.bundle import Passport
from buckler.model.canonical import canonical_bytes
from buckler.model.ids import VmId
from buckler.model.pool import Vm
from buckler.ports.roster import KeyRecord
from buckler.ports.store import Unit
from buckler.trust.statement import KeyId, KeySet, Kind, Untrusted, key_from_text, key_id, key_text, sign, verify


def claims_of(parts: Parts, vm: Vm) -> Passport:
    """What never changes about a VM."""
    macs = tuple(sorted(card.mac for card in vm.interfaces))
    return Passport(pool=parts.settings.pool, vm=vm.id, tenant=vm.tenant, uuid=vm.uuid, macs=macs)


def passport_of(parts: Parts, vm: Vm) -> str:
    """Sign a VM's passport. Equal claims give an equal text for as long as the issuing key stays."""
    return _signed(claims_of(parts, vm), parts.keys.issuing)


@lru_cache(maxsize=1 << 16)
def _signed(claims: Passport, key: Ed25519PrivateKey) -> str:
    """Signed once: every manifest names the passports that are still to be written."""
    return sign(Kind.PASSPORT, canonical_bytes(claims), key)


def signer_of(statement: str, vm: VmId, uuid: str, keys: KeySet) -> KeyId:
    """Return which of the pool's keys signed a passport of this VM; empty when the statement is none."""
    for name, key in keys.items():
        try:
            claims = msgspec.json.decode(verify(Kind.PASSPORT, statement, {name: key}), type=Passport)
        except (Untrusted, msgspec.MsgspecError):
            continue
        if (claims.vm, claims.uuid) == (vm, uuid):
            return name
    return ""


def issuing_id(parts: Parts) -> KeyId:
    """Name the key that signs now."""
    return key_id(parts.keys.issuing.public_key())


def trusted_issuers(parts: Parts, unit: Unit) -> KeySet:
    """The keys that may sign now."""
    return keys_of(parts, unit.keys.issuers()[-1])


def every_issuer(parts: Parts, unit: Unit) -> KeySet:
    """The keys that could ever sign: what old ledger entries are checked against."""
    sets = [keys_of(parts, record) for record in unit.keys.issuers()]
    return {name: key for each in sets for name, key in each.items()}


def keys_of(parts: Parts, record: KeyRecord) -> KeySet:
    """Read one ISSUERS statement of ours."""
    root = parts.keys.root.public_key()
    issuers = msgspec.json.decode(verify(Kind.ISSUERS, record.statement, {key_id(root): root}), type=Issuers)
    keys = [key_from_text(text) for text in issuers.keys]
    return {key_id(key): key for key in keys}


def name_issuing_key(parts: Parts, unit: Unit) -> bool:
    """Have the root name the issuing key if it does not yet; the keys before it stay valid. True when it was new."""
    current = key_text(parts.keys.issuing.public_key())
    records = unit.keys.issuers()
    before = [key_text(key) for key in keys_of(parts, records[-1]).values()] if records else []
    if current in before:
        return False
    version = records[-1].version + 1 if records else 1
    issuers = Issuers(pool=parts.settings.pool, version=version, keys=(current, *before))
    unit.keys.add(KeyRecord(version, sign(Kind.ISSUERS, canonical_bytes(issuers), parts.keys.root), parts.clock()))
    return True
