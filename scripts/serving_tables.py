"""The part of docs/serving.md that tells what a server under load does."""

from collections.abc import Mapping
from typing import Any

Load = Mapping[str, Any]  # what benchmarks/load_client.py printed
GROWTH = 20  # MiB that the second half of a long run may add


def rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Return what was measured, what was aimed at, and what came out, a line each."""
    tensors, photos, memory = found["tensors"], found["photos"], found["memory"]
    start = found["start"]
    lines = [
        ["from a cold shell to the first answer", "2 s",
         f"{start['seconds']['median']:.2f} s (n = {start['seconds']['n']}), "
         f"{start['mib']['median']:.0f} MiB"],
        ["28x28 tensors, 300 clients, as fast as they can", "1,100 a second",
         f"{rate(tensors['closed_300'])}, {late(tensors['closed_300'])}"],
        ["the same, 10 clients", "p99 10 ms",
         f"{rate(tensors['closed_10'])}, {late(tensors['closed_10'])}"],
        ["1,100 tensors a second, open loop, at most 300 connections", "all of them",
         f"{answered(tensors['open_1100_by_300'])}, {late(tensors['open_1100_by_300'])}"],
        ["the same, at most 10 connections", "p99 10 ms", late(tensors["open_1100_by_10"])],
        ["5 photos a second, open loop", "p99 500 ms", late(photos["open_5"])],
        ["10 photos a second, open loop", "all of them",
         f"{answered(photos['open_10'])}, {late(photos['open_10'])}"],
        *overload("tensors", tensors),
        *overload("photos", photos),
        [f"memory, {memory['requests']:,} requests", f"second half at most {GROWTH} MiB more",
         f"{memory['mib_in_the_middle']:.0f} MiB in the middle, "
         f"{memory['mib_at_the_end']:.0f} at the end"],
    ]  # fmt: skip
    if "form" in found:
        form = found["form"]
        lines.append(
            ["28x28 PNG uploads, 10 clients, beside the web form", "20 times as many",
             f"{form['ours']['median']:.0f} a second and {form['form']['median']:.1f}: "
             f"{form['ratio']['median']:.0f} times (n = {form['ratio']['n']}, "
             f"{form['ratio']['min']:.0f} to {form['ratio']['max']:.0f})"]
        )  # fmt: skip
    return lines


def overload(what: str, found: Mapping[str, Any]) -> list[list[str]]:
    """Return the capacity and what twice as much does."""
    twice = found["at_twice"]
    told = twice["requests"]
    share = f"{100 * found['goodput_of_capacity']:.0f} % of the capacity answered 200"
    statuses = ", ".join(f"{n:,} x {status}" for status, n in told["statuses"].items())
    lost = told["broken"] + told["unanswered"]
    health = twice["health"]["milliseconds"]["p99"]
    return [
        [f"capacity for {what}", "", f"{found['capacity']:,.0f} a second"],
        ["… at 80 % of it, and again 5 s after the overload", "all answered 200",
         f"{late(found['at_80_percent'])}; {late(found['at_80_percent_afterwards'])}"],
        [f"twice the capacity for {what}, {twice['seconds']:.0f} s",
         "90 % goodput, only 200 and 503, none lost",
         f"{share}, {late(twice)}; {statuses}; {lost} lost"],
        ["… meanwhile, health", "p99 50 ms", f"p99 {health:.0f} ms"],
    ]  # fmt: skip


def rate(load: Load) -> str:
    """Return how many requests a second were answered."""
    return f"{load['good_a_second']:,.0f} a second"


def answered(load: Load) -> str:
    """Return how many of the requests were answered 200."""
    told = load["requests"]
    return f"{told['statuses']['200']:,} of {told['sent']:,}"


def late(load: Load) -> str:
    """Return how long the answers took."""
    told = load["requests"]["milliseconds"]
    return f"p50 {told['p50']:.1f} ms, p99 {told['p99']:.1f} ms"
