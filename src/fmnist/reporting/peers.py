"""The models that this one stands beside, with intervals, the best first."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """A model's test accuracy, or the mean of several seeds'.

    `accuracy` and the bounds of its 95 % `interval` are 0..1; `basis` says over what the interval
    is, `trained_on` how many images, `seconds` how long; `is_this` marks the model of the page,
    `is_ranked` is false where nobody should believe the accuracy, `beware` says what is doubtful.
    """

    name: str
    accuracy: float
    interval: tuple[float, float] | None
    basis: str
    trained_on: str = ""
    seconds: float | None = None
    parameters: int | None = None
    is_this: bool = False
    is_ranked: bool = True
    beware: str = ""


@dataclass(frozen=True)
class PeerRow:
    """A peer and where its accuracy and its interval lie on the scale of all, 0..1."""

    peer: Peer
    place: float
    low: float
    high: float


def peer_rows(peers: Sequence[Peer]) -> list[PeerRow]:
    """Return the rows of a leaderboard, the best first; none where there is nobody to compare.

    What is not ranked comes last.
    """
    if len(peers) < 2:
        return []
    spans = [peer.interval or (peer.accuracy,) * 2 for peer in peers]
    least, most = min(low for low, _ in spans), max(high for _, high in spans)
    width = max(most - least, 1e-9)
    rows = [
        PeerRow(
            peer,
            round((peer.accuracy - least) / width, 4),
            round((low - least) / width, 4),
            round((high - least) / width, 4),
        )
        for peer, (low, high) in zip(peers, spans, strict=True)
    ]
    return sorted(rows, key=lambda row: (not row.peer.is_ranked, -row.peer.accuracy))
