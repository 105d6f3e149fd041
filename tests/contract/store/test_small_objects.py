"""A store of before objects were small is carried over: the states that hosts may enforce, and what was published."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import sqlalchemy
from alembic import command
from alembic.config import Config

from buckler.controller.carrying import carry_rollout
from buckler.controller.rollout_state import read_rollout
from buckler.controller.stepping import forgotten
from buckler.drivers.store.database import _engine, open_database
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, HostId
from buckler.policy.bundle import Bundle, build_bundle
from buckler.policy.rollout import plan_rollout
from buckler.policy.whole import join_bundle
from tests.policyworld import Store
from tests.randompolicy import Seeded, world


def made(seed: int) -> Bundle:
    store, documents = Store(), world(Seeded(seed))
    pool = store.pool(documents)
    return build_bundle(pool, documents, store.allocate(pool, documents))


def listed(bundle: Bundle, envelopes: dict[str, str]) -> dict[str, object]:
    """A state as it was named then; its objects go to ``envelopes``."""
    names: list[list[str]] = []
    for kind, values in (("segment", bundle.segments), ("program", bundle.programs.values())):
        contents = [canonical_bytes(each) for each in values]
        for content in contents:
            envelope = {"kind": kind, "content": content.decode(), "statement": ""}
            envelopes[digest_of(content)] = json.dumps(envelope)
        names.append([digest_of(content) for content in contents])
    rules = msgspec.to_builtins(bundle.rules)
    return {"segments": names[0], "programs": sorted(names[1]), "rules": rules}


def test_a_rollout_under_way_goes_on_from_the_same_states(tmp_path: Path) -> None:
    old, new = made(1), made(2)
    plan = plan_rollout([old], new)
    envelopes: dict[str, str] = {}
    before = listed(old, envelopes)
    stages = [
        {"stage": each.stage.value, "bundle": listed(each.bundle, envelopes), "waits_for_all": each.waits_for_all}
        for each in plan
    ]
    state = digest_of(canonical_bytes((tuple(before["segments"]), tuple(before["programs"]))))  # type: ignore[arg-type]
    rollout = {
        "source": 7, "target": "old words", "stages": stages, "is_done": False, "in_force": [before],
        "positions": {"h1": {"index": 0, "since": 5, "revision": 6, "rest": "x"}},
        "holdings": {"h1": [[4, state, True], [5, "sha256:nobody knows", True]]},
    }  # fmt: skip
    url = f"sqlite:///{tmp_path / 'pool.sqlite'}"
    engine, config = _engine(url), Config()
    config.set_main_option("script_location", "buckler.drivers.store:migrations")
    with engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        rows = [{"digest": digest, "envelope": text} for digest, text in envelopes.items()]
        connection.execute(sqlalchemy.text("INSERT INTO objects VALUES (:digest, :envelope)"), rows)
        connection.execute(sqlalchemy.text("UPDATE pool SET rollout = :text"), {"text": json.dumps(rollout)})
    engine.dispose()
    store = open_database(url)
    with store.write() as unit:
        assert carry_rollout(unit)
        assert not carry_rollout(unit), "once"
    with store.read() as unit:
        carried = read_rollout(unit)
        assert carried.target == "", "published anew"
        found = [join_bundle(each.wanted.root, {}, unit.objects.get) for each in carried.stages]
        assert [(each.segments, each.programs) for each in found] == [
            (each.bundle.segments, each.bundle.programs) for each in plan
        ]
        (name,) = carried.in_force
        assert join_bundle(name.root, {}, unit.objects.get).segments == old.segments
        assert [each.state for each in carried.holdings[HostId("h1")]] == [name.state]
        assert forgotten(carried, [HostId("h1")], {}).in_force == (name,)
        whole = unit.objects.get(Digest(digest) for digest in envelopes)
        assert whole == {digest: json.loads(text)["content"].encode() for digest, text in envelopes.items()}
    store.close()
