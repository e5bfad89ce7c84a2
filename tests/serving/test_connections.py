from dataclasses import dataclass
from typing import Any, cast

from fmnist.serving.connections import Connections
from fmnist.serving.settings import Settings


@dataclass(eq=False)
class Open:
    """A connection that waits for its client."""

    client_name: str
    is_aborted: bool = False

    def abort(self) -> None:
        self.is_aborted = True


def entered(connections: Connections, client: str) -> Open:
    waiting = Open(client)
    assert connections.enter(client)
    connections.waiting[cast(Any, waiting)] = None
    return waiting


def test_who_has_most_makes_room_and_not_who_waits_longest() -> None:
    connections = Connections(Settings(connections=6))
    half_sent = entered(connections, "10.0.0.1")
    greedy = [entered(connections, "10.0.0.2") for _ in range(5)]
    entered(connections, "10.0.0.2")
    entered(connections, "10.0.0.3")
    assert [each.is_aborted for each in greedy] == [True, True, False, False, False]
    assert not half_sent.is_aborted


def test_of_clients_with_one_each_the_longest_waiting_makes_room() -> None:
    connections = Connections(Settings(connections=3))
    each = [entered(connections, f"10.0.0.{n}") for n in range(3)]
    connections.waiting[cast(Any, each[0])] = connections.waiting.pop(cast(Any, each[0]))
    entered(connections, "10.0.0.9")
    assert [one.is_aborted for one in each] == [False, True, False]


def test_what_left_counts_no_longer() -> None:
    connections = Connections(Settings(connections=1))
    for _ in range(5):
        assert connections.enter("10.0.0.1")
        connections.leave("10.0.0.1")
    assert connections.enter("10.0.0.2")
    assert not connections.enter("10.0.0.1")
