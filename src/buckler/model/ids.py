"""Identifiers and the numbers that programs in the kernel know things by."""

from __future__ import annotations

from typing import NewType

VmId = NewType("VmId", str)
"""A VM's Buckler id: a UUIDv7 (RFC 9562, 5.7) from creation to deletion, never reused."""

HostId = NewType("HostId", str)
"""A hypervisor host's id: a UUIDv7 given when it joins the pool."""

Revision = NewType("Revision", int)
"""A committed state of the pool. Rises by at least one with every change; never reused."""

Digest = NewType("Digest", str)
"""``sha256:`` and 64 hexadecimal digits, over an object's canonical JSON (RFC 8785)."""

IdentityNumber = NewType("IdentityNumber", int)
"""Pool-wide number (u32) of a security identity: one full label set, or one of the reserved ones below."""

VmNumber = NewType("VmNumber", int)
"""Pool-wide number (u32) of a VM, from 1; 0 means "no VM of the pool"."""

Zone = NewType("Zone", int)
"""Pool-wide number (u32) of a network, from 1: the scope of every address look-up."""

RuleNumber = NewType("RuleNumber", int)
"""Pool-wide number (u32) of one rule of one document, from 1; 0 means "no rule matched: default deny"."""

IDENTITY_ANY = IdentityNumber(0)
"""In a program's key: whichever peer has no entries of its own."""
IDENTITY_HOST = IdentityNumber(1)
"""The hypervisor host as a network's declared gateway."""
IDENTITY_WORLD = IdentityNumber(2)
"""An address that belongs to no VM of the pool and to no CIDR that a policy names."""
IDENTITY_GROUP = IdentityNumber(3)
"""Multicast and broadcast destinations."""
IDENTITY_INFRA = IdentityNumber(4)
"""Underlay, tunnel, migration, libvirt and Buckler addresses of hosts: no policy can open them."""
FIRST_CIDR_IDENTITY = IdentityNumber(0x1000_0000)
"""Numbers from here to FIRST_VM_IDENTITY stand for sets of CIDRs that policies name."""
FIRST_VM_IDENTITY = IdentityNumber(0x2000_0000)
"""Numbers from here on stand for label sets of VM interfaces."""
