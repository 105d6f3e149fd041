"""A handover's statement and bodies: one changed byte or field, and it is refused."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.agent.handover.bundle import Bundle, Expected, Seal, check_bodies, read_bundle, seal, sign_bundle
from buckler.agent.handover.section import Content
from buckler.agent.handover.talk import Message, Unreadable, read_message, write_message
from buckler.model.bundle import Member
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import HostId, Revision, VmId
from buckler.trust.statement import Kind, Untrusted, key_text, sign

KEY = Ed25519PrivateKey.generate()
SOURCE = Member(HostId("a"), "hv1", key_text(KEY.public_key()), "10.0.0.1", ())
BODIES = {"connections": b"\1\2\3" * 40, "counters": b"", "notes": b"some text"}
CONTENTS = {name: Content(1, body) for name, body in BODIES.items()}
BUNDLE = Bundle(
    vm=VmId("v"),
    source=SOURCE.id,
    destination=HostId("b"),
    nonce="n1",
    epoch=4,
    serial=3,
    revision=Revision(9),
    binding=digest_of(b"x"),
    is_final=False,
    sections=seal(CONTENTS),
)
EXPECTED = Expected(VmId("v"), SOURCE.id, HostId("b"), "n1", least_epoch=4, serial=2)
STATEMENT = sign_bundle(BUNDLE, KEY)
JUDGED = ("vm", "source", "destination", "nonce", "serial")


def test_what_is_sound_is_read():
    bundle = read_bundle(STATEMENT, SOURCE, EXPECTED)
    assert check_bodies(bundle, BODIES) == CONTENTS


@given(st.integers(0, len(STATEMENT) - 1), st.integers(1, 127))
@settings(max_examples=600, deadline=None)
def test_any_other_character_of_the_statement_is_refused(place: int, change: int):
    spoiled = STATEMENT[:place] + chr(ord(STATEMENT[place]) ^ change) + STATEMENT[place + 1 :]
    with pytest.raises(Untrusted):
        read_bundle(spoiled, SOURCE, EXPECTED)


@given(st.integers(0, len(STATEMENT) - 1))
@settings(max_examples=200, deadline=None)
def test_a_statement_that_ends_early_is_refused(length: int):
    with pytest.raises(Untrusted):
        read_bundle(STATEMENT[:length], SOURCE, EXPECTED)


@pytest.mark.parametrize("field", JUDGED)
def test_a_statement_that_the_source_really_signed_about_something_else_is_refused(field: str):
    value = getattr(BUNDLE, field)
    for other in (value + 1, value - 1) if isinstance(value, int) else (value + "x", "", value.upper() + "!"):
        statement = sign_bundle(msgspec.structs.replace(BUNDLE, **{field: other}), KEY)
        with pytest.raises(Untrusted):
            read_bundle(statement, SOURCE, EXPECTED)


def test_an_older_epoch_is_refused_and_a_later_one_is_the_vms_newest_stay():
    for epoch, is_sound in ((3, False), (0, False), (-1, False), (4, True), (7, True)):
        statement = sign_bundle(msgspec.structs.replace(BUNDLE, epoch=epoch), KEY)
        if is_sound:
            assert read_bundle(statement, SOURCE, EXPECTED).epoch == epoch
        else:
            with pytest.raises(Untrusted, match="epoch"):
                read_bundle(statement, SOURCE, EXPECTED)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.HANDOVER])
def test_no_other_kind_of_statement_is_taken_for_a_handover(kind: Kind):
    with pytest.raises(Untrusted):
        read_bundle(sign(kind, canonical_bytes(BUNDLE), KEY), SOURCE, EXPECTED)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_whatever_the_source_signs_it_is_a_bundle_or_refused(payload: bytes):
    with pytest.raises(Untrusted):
        read_bundle(sign(Kind.HANDOVER, payload, KEY), SOURCE, EXPECTED)


def test_fields_that_are_missing_or_more_are_refused():
    fields = msgspec.to_builtins(BUNDLE)
    for name in fields:
        less = {key: value for key, value in fields.items() if key != name}
        with pytest.raises(Untrusted):
            read_bundle(sign(Kind.HANDOVER, canonical_bytes(less), KEY), SOURCE, EXPECTED)
    with pytest.raises(Untrusted):
        read_bundle(sign(Kind.HANDOVER, canonical_bytes({**fields, "more": 1}), KEY), SOURCE, EXPECTED)


@given(st.sampled_from(["connections", "notes"]), st.data())
@settings(deadline=None)
def test_any_other_byte_of_a_body_is_refused_with_the_sections_name(name: str, data: st.DataObject):
    body = bytearray(BODIES[name])
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Untrusted, match=f"section {name} was tampered with"):
        check_bodies(BUNDLE, {**BODIES, name: bytes(body)})


@given(st.sampled_from(sorted(BODIES)), st.binary(max_size=200))
@settings(deadline=None)
def test_a_longer_or_shorter_or_other_body_is_refused(name: str, body: bytes):
    if body != BODIES[name]:
        with pytest.raises(Untrusted):
            check_bodies(BUNDLE, {**BODIES, name: body})


def test_a_missing_section_or_one_too_many_is_refused():
    for bodies in ({"connections": BODIES["connections"]}, {**BODIES, "more": b""}, {}):
        with pytest.raises(Untrusted, match="not those that were sealed"):
            check_bodies(BUNDLE, bodies)
    swapped = {**BODIES, "connections": BODIES["notes"], "notes": BODIES["connections"]}
    with pytest.raises(Untrusted):
        check_bodies(BUNDLE, swapped)


def test_a_seal_of_another_digest_form_fits_nothing():
    bundle = msgspec.structs.replace(BUNDLE, sections={"notes": Seal(1, len(BODIES["notes"]), "notes")})  # type: ignore[arg-type]
    with pytest.raises(Untrusted):
        check_bodies(bundle, {"notes": BODIES["notes"]})


@given(st.from_type(Message))
@settings(max_examples=100, deadline=None)
def test_messages_read_back(message: Message):
    assert read_message(write_message(message)) == message


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_are_a_message_or_unreadable(raw: bytes):
    with pytest.raises(Unreadable):
        read_message(raw)
