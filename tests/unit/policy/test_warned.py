"""What is said of the documents that were applied is what is said of all, where these stand: word for word, in order."""

from __future__ import annotations

import msgspec
import pytest

from buckler.model.label import LABEL_ID, LABEL_NAME
from buckler.policy.language import Subject
from buckler.policy.lend import lend_numbers
from buckler.policy.pool import Numbers
from buckler.policy.questions import list_warnings
from buckler.policy.warning import warn_about
from tests.policyworld import Store
from tests.randompolicy import Seeded, flag, network, pick, vm, wide_open

from .test_current import History


@pytest.mark.parametrize("seed", range(60))
def test_some_are_warned_of_as_all_are(seed: int) -> None:
    choose = Seeded(seed)
    history, told = History(choose), 0
    for _ in range(8):
        for _ in range(5):
            history.change()
        documents = []
        for place, key in enumerate(sorted(history.documents)):
            written, line = history.documents[key], 10 * (place // 2)  # now and then two share a line
            lines = {f"spec.{side}[{number}]": line + number for side in ("ingress", "egress") for number in range(3)}
            file = pick(choose, ("a.yaml", "b.yaml"))
            documents.append(msgspec.structs.replace(written, file=file, line=line, lines=lines))
        applied = [each for each in documents if flag(choose, 3)]
        over = tuple(each for each in documents if flag(choose, 6))
        pool, today = history.pool(), pick(choose, ("2029-01-01", "2031-01-01"))
        numbers = lend_numbers(Numbers(), pool, tuple(documents))
        own = {(each.file, line) for each in applied for line in (each.line, *each.lines.values())}
        everything = list_warnings(pool, documents, numbers, today, over)
        wanted = tuple(each for each in everything if (each.file, each.line) in own)
        assert warn_about(pool, documents, applied, today, over) == wanted
        told += len(wanted)
    assert told, "nothing was ever odd"


def test_what_code_made_is_known_by_its_name() -> None:
    history = History(Seeded(5))
    for _ in range(40):
        history.change()
    documents = list(history.documents.values())
    pool, numbers = history.pool(), lend_numbers(Numbers(), history.pool(), tuple(documents))
    everything = set(list_warnings(pool, documents, numbers, "2031-01-01"))
    found = {problem for each in documents for problem in warn_about(pool, documents, [each], "2031-01-01")}
    assert found == everything
    one = next(each for each in documents if hasattr(each.spec, "review"))
    assert {each.message.split(":")[0].split("/")[0].split()[-1] for each in warn_about(pool, documents, [one], "2031")} <= {
        one.name, *(each.name for each in documents if not hasattr(each.spec, "review"))
    }  # fmt: skip


@pytest.mark.parametrize("meant", ["vm0", "vm1"])
def test_of_vms_that_are_alike_the_one_that_a_rule_names_is_somebody(meant: str) -> None:
    """By name and by id: whichever of them stands for all the others that nobody names."""
    alike = (network(), *(vm(index, {"app": "a"}) for index in range(2)))
    store = Store()
    ids = {each.name: each.id for each in store.pool(alike).vms}
    for label, value in ((LABEL_NAME, meant), (LABEL_ID, ids[meant])):
        written = wide_open()
        spec = msgspec.structs.replace(written.spec, subject=Subject(match_labels={label: value}))
        only = msgspec.structs.replace(written, spec=spec, file="a.yaml", line=1)
        pool = store.pool((*alike, only))
        assert warn_about(pool, (*alike, only), [only], "2001-01-01") == ()
