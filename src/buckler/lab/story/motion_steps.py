"""Steps about change and loss: a VM moves, the agent dies, the controller is away."""

from __future__ import annotations

from buckler.lab.machine import LabFailed
from buckler.lab.moving import Way
from buckler.lab.plan import OUTSIDE_IPV4, OUTSIDE_IPV6
from buckler.lab.story.cast import TENANT, Cast, differences, wait_until
from buckler.lab.story.crossfire import OUTSIDE, Crossfire
from buckler.lab.story.figures import AgentKilled, ControllerAway, MigrationShielded, Survived
from buckler.lab.story.probing import hold, is_reached, scan
from buckler.lab.story.traffic import Traffic
from buckler.ledger.entry import Entry
from buckler.model.agentapi import TaskState
from buckler.model.event import EventKind
from buckler.model.operatorapi.vms import MigrateRequest


def migration_shielded(cast: Cast) -> MigrationShielded:
    """Move ``app`` five times under forbidden probes both ways, every 5 ms each, and with connections that must live.

    What the outside sends, only the shield that moves refuses: nothing else stands in its way.
    """
    app, attacker = cast.guest("app"), cast.guest("attacker")
    at_app = [f"tcp/{app.ipv4}/8080", f"udp/{app.ipv6}/53", f"icmp/{app.ipv4}", f"tcp/{app.ipv6}/22"]
    at_outside = [
        f"udp/{OUTSIDE_IPV4}/53",
        f"icmp/{OUTSIDE_IPV6}",
        f"tcp/{attacker.ipv4}/22",
        f"udp/{attacker.ipv6}/53",
    ]
    everything_of_app = [app.ipv4, app.ipv6]
    crossfire = Crossfire(
        cast,
        shots={OUTSIDE: at_app, "attacker": at_app, "app": at_outside},
        eyes={
            OUTSIDE: everything_of_app,
            "attacker": everything_of_app,
            "app": [attacker.ipv4, attacker.ipv6, OUTSIDE_IPV4, OUTSIDE_IPV6],
        },
    )
    traffic = Traffic(
        cast.centre,
        "web1",
        [
            f"{kind}/{address}{port}"
            for address in (app.ipv4, app.ipv6)
            for kind, port in (("tcp", "/8080"), ("icmp", ""))
        ],
        idle=[f"tcp/{app.ipv4}/8080", f"tcp/{app.ipv6}/8080"],
        poured=f"tcp/{app.ipv4}/8080",
    )
    known = len(_arrivals(cast))
    moves, seconds = _move_five_times(cast, "app")
    traffic.has_gone_on()
    traffic.ask_idle()
    sent, passed, evidence = crossfire.stop()
    wait_until("the ledger knows of all moves", lambda: len(_arrivals(cast)) >= known + len(moves))
    result = MigrationShielded(
        moves=moves,
        seconds=seconds,
        sent=sent,
        passed=passed,
        survived=traffic.stop(),
        connections_moved=sum(entry.detail.get("connections_moved", 0) for entry in _arrivals(cast)[known:]),
        evidence=evidence,
    )
    cast.tell(f"app moved {', '.join(result.moves)} in {result.seconds} s")
    cast.tell(f"{result.sent} forbidden packets sent meanwhile, {result.passed} passed")
    _tell_survived(cast, result.survived)
    cast.tell(f"the hosts handed over {result.connections_moved} connections in all")
    if passed:
        cast.tell("; ".join(evidence))
    return result


def _move_five_times(cast: Cast, vm: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """By Buckler's order and by each of libvirt's own ways in turn; return where to and the seconds of each."""
    moves, seconds = [], []
    for way in (None, Way.DIRECT, Way.P2P, Way.DIRECT, None):
        home = cast.centre.host_of(vm)
        away = _other(cast, home)
        seconds.append(migrate_by_task(cast, vm, away) if way is None else cast.centre.migrate(vm, away, way))
        moves.append(f"{home} → {away}")
    return tuple(moves), tuple(round(value, 2) for value in seconds)


def _tell_survived(cast: Cast, survived: Survived) -> None:
    cast.tell(
        f"{survived.flows} flows (speaking, idle, a transfer of {survived.mib_poured:g} MiB): {survived.resets} resets, "
        f"{len(survived.dead)} dead; the longest wait for an answer was {survived.longest_gap_ms} ms"
    )
    for words in survived.dead:
        cast.tell(words)


def _arrivals(cast: Cast) -> list[Entry]:
    return [entry for entry in cast.ledger() if entry.kind == EventKind.MIGRATION_ARRIVED]


def _other(cast: Cast, home: str) -> str:
    return next(host.name for host in cast.centre.plan.hosts if host.name != home)


def migrate_by_task(cast: Cast, vm: str, host: str) -> float:
    """Let the controller, once it knows where the VM is, ask its host to move it; return the seconds it took."""
    home = cast.centre.host_of(vm)
    with cast.operator() as client:
        wait_until(f"the controller knows that {vm} is on {home}", lambda: client.vm(vm, TENANT).host == home)
        task = client.migrate(vm, MigrateRequest(host=host), TENANT)

        def is_over() -> bool:
            found = client.task(task.id)
            if found.state is TaskState.FAILED:
                raise LabFailed(f"moving {vm} to {host} failed: {found.message}")
            return found.state is TaskState.DONE

        return wait_until(f"{vm} runs on {host}", is_over, seconds=60)


def agent_killed(cast: Cast) -> AgentKilled:
    """Kill every agent with -9 while a connection is open; probe everything while none lives; start them again."""
    before = cast.probed(cast.expected())
    connection = hold(cast.centre, "web1", "held", f"tcp/{cast.guest('app').ipv4}/8080")
    wait_until("the connection speaks", lambda: int(connection.read().get("received", 0)) > 3)
    killed = sum(cast.pool.kill(host.name, "buckler agent") for host in cast.centre.plan.hosts)
    first = int(connection.read()["received"])
    during = cast.probed(before)
    last = connection.stop()
    for host in cast.centre.plan.hosts:
        cast.pool.start_agent(host.name)
    cast.pool.wait_for_hosts()
    cast.tell(f"{killed} agents killed; {len(during)} meetings succeed as before, {len(before ^ during)} differ")
    went_on = last["state"] == "open" and int(last["received"]) > first
    return AgentKilled(killed, differences(before, during), went_on)


def controller_away(cast: Cast) -> ControllerAway:
    """Stop the controller; probe, start a VM and move it; then let the controller come back."""
    before = cast.probed(cast.expected())
    cast.pool.stop_controller()
    changed = differences(before, cast.probed(before))
    home = cast.centre.host_of("web2")
    cast.centre.restart("web2")
    started = bool(cast.page("web2"))
    web2 = cast.guest("web2")
    at_web2 = [f"tcp/{web2.ipv4}/80", f"tcp/{web2.ipv6}/80"]
    traffic = Traffic(cast.centre, OUTSIDE, at_web2, idle=at_web2)
    for place in (_other(cast, home), home):
        cast.centre.migrate("web2", place)
        traffic.has_gone_on()
    traffic.ask_idle()
    forbidden = [f"tcp/{web2.ipv4}/22", f"tcp/{web2.ipv6}/5432", f"udp/{web2.ipv4}/53"]
    answers = scan(cast.centre, "attacker", forbidden)
    passed = tuple(target for target, answer in answers.items() if is_reached(answer))
    survived = traffic.stop()
    cast.pool.start_controller()
    cast.pool.wait_for_hosts()
    cast.tell(f"without a controller: {len(changed)} verdicts changed, web2 started: {started}, moved away and back")
    _tell_survived(cast, survived)
    return ControllerAway(changed, started, 2, survived, passed)
