from fmnist.reporting import Peer
from fmnist.reporting.peers import peer_rows


def test_rows_stand_on_one_scale_the_best_first() -> None:
    others = [
        Peer("b", 0.92, (0.91, 0.93), "5 seeds"),
        Peer("a", 0.94, None, "1 seed"),
        Peer("c", 0.90, (0.90, 0.95), "the test images"),
    ]
    rows = peer_rows(others)
    assert [row.peer.name for row in rows] == ["a", "b", "c"]
    assert [(row.low, row.place, row.high) for row in rows] == [
        (0.8, 0.8, 0.8),
        (0.2, 0.4, 0.6),
        (0, 0, 1),
    ]


def test_alone_there_is_nothing_to_compare() -> None:
    assert peer_rows([Peer("a", 0.94, None, "1 seed")]) == []
    assert peer_rows([]) == []


def test_all_alike_still_have_a_place() -> None:
    rows = peer_rows([Peer(name, 0.5, None, "1 seed") for name in "ab"])
    assert [row.place for row in rows] == [0, 0]


def test_what_nobody_should_believe_comes_last() -> None:
    labels = Peer("labels", 1.0, None, "1 seed", is_ranked=False, beware="too good")
    rows = peer_rows([labels, Peer("a", 0.94, None, "1 seed")])
    assert [row.peer.name for row in rows] == ["a", "labels"]
