"""A whole training step recorded once as a CUDA graph and replayed.

A small network on a large GPU waits for Python to launch its kernels; a graph launches them all at
once. What cannot be recorded goes on as it was.
"""

import logging
from collections.abc import Callable

import torch

from fmnist.training.batches import Batch

log = logging.getLogger("fmnist")

WARM_UP = 3  # steps before the recording, in which libraries choose algorithms and allocate


class CapturedStep:
    """`step` as a graph from its fourth full batch on; smaller batches are stepped as they come.

    Everything that `step` reads or writes has to stay where it is in the GPU's memory.
    """

    def __init__(
        self, step: Callable[[Batch], None], batch_size: int, forget: Callable[[], None]
    ) -> None:
        """`forget` throws away the gradients that a failed recording left behind."""
        self.step, self.batch_size, self.forget = step, batch_size, forget
        self.seen = 0
        self.failed = False
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: Batch | None = None  # where the graph reads what it learns from

    def __call__(self, batch: Batch) -> None:
        """Make one step."""
        if self.failed or len(batch.y) != self.batch_size:
            self.step(batch)
            return
        self.seen += 1
        if self.seen <= WARM_UP:
            self._step_aside(batch)
        elif self.graph is None and not self._record(batch):
            self.step(batch)
        else:
            self._replay(batch)

    def _step_aside(self, batch: Batch) -> None:
        """Step on another stream than the default one, as what will be recorded wants it."""
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self.step(batch)
        torch.cuda.current_stream().wait_stream(aside)

    def _record(self, batch: Batch) -> bool:
        """Record a step without making it, and tell whether that worked."""
        graph, kept = torch.cuda.CUDAGraph(), Batch(*(part.clone() for part in batch))
        stream = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph):
                self.step(kept)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            log.warning(
                "the step cannot be recorded as a CUDA graph (%s); going on without", reason
            )
            self.failed = True
            torch.cuda.set_stream(stream)  # a recording that fails can leave its own behind
            self.forget()
            return False
        self.graph, self.batch = graph, kept
        return True

    def _replay(self, batch: Batch) -> None:
        assert self.graph is not None
        assert self.batch is not None
        for kept, part in zip(self.batch, batch, strict=True):
            kept.copy_(part)
        self.graph.replay()
