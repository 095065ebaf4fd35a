"""hipcomm-bench without devices: sizes, data and its check, statistics, tables, reports, the command."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hipcomm_bench.clock import EachCall, Prepared
from hipcomm_bench.data import DTYPES, REDOPS, Buffers, count_wrong, fill, lay_out, whole_of
from hipcomm_bench.machine import parse_gpus
from hipcomm_bench.measure import ROUNDS, Effort, measure, median, percentile, planned_samples
from hipcomm_bench.memory import HostMemory
from hipcomm_bench.ops import OPS, Call, bandwidths
from hipcomm_bench.outcome import transfers
from hipcomm_bench.plot import draw, why_not
from hipcomm_bench.progress import Bar, mark
from hipcomm_bench.report import to_markdown, write
from hipcomm_bench.results import Job, Options, Report, Row
from hipcomm_bench.sizes import format_size, parse_size, size_range
from hipcomm_bench.table import align, closing_lines, comparison, format_us, markdown, nccl_header, nccl_line
from hipcomm_bench.workloads import resolve
from hipcomm_bench.world import first_problem

# --- sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1000", 1000),
        ("64K", 65536),
        ("64k", 65536),
        ("1M", 2**20),
        ("2GiB", 2**31),
        ("8 KB", 8192),
    ],
)
def test_parse_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0K", "-1", "1.5K", "K", "1T", "1KK", "one"])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@given(st.integers(min_value=1, max_value=2**45))
def test_a_formatted_size_reads_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_size_range_includes_its_end() -> None:
    assert size_range(1024, 4096, 2) == [1024, 2048, 4096]
    assert size_range(1000, 9999, 3) == [1000, 3000, 9000]
    assert size_range(8, 8, 2) == [8]
    assert size_range(1000, 3500, 2, 1000) == [1000, 2000, 3000]


@pytest.mark.parametrize("arguments", [(8, 4, 2), (0, 4, 2), (4, 8, 1)])
def test_size_range_refuses(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"no sizes from|step factor"):
        size_range(*arguments)


# --- operations


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("all_reduce", 1.5),
        ("all_gather", 0.75),
        ("reduce_scatter", 0.75),
        ("all_to_all", 0.75),
        ("broadcast", 1.0),
        ("reduce", 1.0),
        ("gather", 0.75),
        ("scatter", 0.75),
        ("send_recv", 1.0),
        ("all_gather_v", 0.75),
        ("all_to_all_v", 0.75),
        ("barrier", 0.0),
    ],
)
def test_bus_bandwidth_of_four_ranks(name: str, factor: float) -> None:
    assert bandwidths(OPS[name], 2_000_000_000, 0.5, 4) == (4.0, 4.0 * factor)
    assert bandwidths(OPS[name], 2_000_000_000, 0.5, 1) == (4.0, 0.0)


def test_elements_of_the_buffers() -> None:
    assert OPS["all_reduce"].elements(1000, 4, 3) == (250, 250)
    assert OPS["broadcast"].elements(1000, 4, 3) == (250, 250)
    assert OPS["all_gather"].elements(1000, 4, 3) == (83, 249)
    assert OPS["reduce_scatter"].elements(1000, 4, 3) == (249, 83)
    assert OPS["all_to_all"].elements(1000, 4, 3) == (249, 249)
    assert OPS["all_gather"].elements(8, 4, 3) == (0, 0)


# --- data: a NumPy stand-in for a library makes the call on all ranks' buffers


def perform(call: Call, ranks: Sequence[Buffers]) -> None:
    """Do to all ranks' buffers what a collective does."""
    inputs = [buffers.send.array.reshape(-1).copy() for buffers in ranks]
    if call.op.name == "send_recv":
        results: list[Any] = [inputs[-1], *inputs[:-1]]
    elif call.op.moves:
        parts = call.op.parts(max(buffers.recv.count for buffers in ranks), len(ranks))
        numbers = range(len(ranks))
        counts = np.array([[call.op.pair(parts, i, j) for j in numbers] for i in numbers])
        results = oracle.results(call.op.name, inputs, call.redop, call.root, call.rows, counts)
    else:
        results = [None] * len(ranks)
    for buffers, result in zip(ranks, results, strict=True):
        if result is not None:
            buffers.recv.array.reshape(-1)[...] = result


def filled(call: Call, size: int, world_size: int) -> list[Buffers]:
    """Return all ranks' buffers, filled; their memory is larger than the message."""
    ranks = []
    for rank in range(world_size):
        memory = HostMemory(size + 100), HostMemory(size + 100)
        ranks.append(lay_out(call, size, rank, world_size, memory))
        fill(ranks[-1], call, rank, world_size)
    return ranks


def wrong_counts(call: Call, ranks: Sequence[Buffers]) -> list[int]:
    """Return the count of wrong elements of each rank."""
    return [count_wrong(buffers, call, rank, len(ranks)) for rank, buffers in enumerate(ranks)]


CASES = [(op, redop) for op in OPS.values() if op.moves for redop in (REDOPS if op.reduces else ("none",))]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("op", "redop"), CASES)
def test_a_right_result_counts_as_right(op: Any, redop: str, dtype: str, world_size: int) -> None:
    for in_place in (False, True) if op.has_in_place else (False,):
        call = Call(op, dtype, redop, in_place, root=world_size // 2)
        ranks = filled(call, 24000, world_size)
        perform(call, ranks)
        assert wrong_counts(call, ranks) == [0] * world_size


@pytest.mark.parametrize(("op", "redop"), CASES)
def test_one_wrong_element_is_counted(op: Any, redop: str) -> None:
    call = Call(op, "float32", redop, in_place=False, root=1)
    ranks = filled(call, 24000, 3)
    perform(call, ranks)
    ranks[1].recv.array[77] = np.nextafter(ranks[1].recv.array[77], np.float32(np.inf))
    assert wrong_counts(call, ranks) == [0, 1, 0]


@pytest.mark.parametrize(("op", "redop"), CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_untouched_receive_buffer_is_wrong_everywhere(op: Any, redop: str, dtype: str) -> None:
    call = Call(op, dtype, redop, in_place=False)
    ranks = filled(call, 24000, 2)
    assert wrong_counts(call, ranks) == [buffers.recv.count for buffers in ranks]


def test_a_sum_that_leaves_out_a_rank_is_wrong() -> None:
    call = Call(OPS["all_reduce"], "float32", "sum", in_place=False)
    ranks = filled(call, 4096, 3)
    ranks[0].recv.array[...] = ranks[0].send.array + ranks[1].send.array
    last_is_zero = int(np.count_nonzero(ranks[2].send.array == 0))
    assert wrong_counts(call, ranks)[0] == 1024 - last_is_zero > 900


def test_in_place_the_smaller_buffer_is_a_part_of_the_larger() -> None:
    memory = HostMemory(4096), HostMemory(4096)
    gather = lay_out(Call(OPS["all_gather"], "float32", "none", True), 3072, 2, 3, memory)
    assert (gather.send.address, gather.send.count) == (gather.recv.address + 2048, 256)
    scatter = lay_out(Call(OPS["reduce_scatter"], "float32", "sum", True), 3072, 1, 3, memory)
    assert (scatter.recv.address, scatter.recv.count) == (scatter.send.address + 1024, 256)
    reduce = lay_out(Call(OPS["all_reduce"], "float32", "sum", True), 3072, 1, 3, memory)
    assert reduce.send.address == reduce.recv.address == memory[1].address


@pytest.mark.parametrize("name", ["all_gather", "reduce_scatter"])
def test_parts_are_put_together_along_any_dimension(name: str) -> None:
    for shape, dim in (((5, 12), 1), ((3, 6, 70), 1), ((3, 6, 70), 0), ((2, 7, 9), 2)):
        for world_size in (1, 3):
            call = Call(OPS[name], "float32", "sum", False, shape=shape, dim=dim)
            ranks = filled(call, 4 * int(np.prod(shape)), world_size)
            part = (*shape[:dim], shape[dim] // world_size, *shape[dim + 1 :])
            whole, share = (ranks[0].recv, ranks[0].send)[:: 1 if name == "all_gather" else -1]
            assert (whole.array.shape, share.array.shape) == (shape, part)
            perform(call, ranks)
            assert wrong_counts(call, ranks) == [0] * world_size
            swapped = ranks[-1].recv.array
            swapped[..., [0, -1]] = swapped[..., [-1, 0]]
            assert wrong_counts(call, ranks)[-1] > 0 or swapped.shape[-1] == 1


def test_unequal_parts_grow_and_make_up_the_message() -> None:
    op = OPS["all_gather_v"]
    assert op.parts(100, 4) == [10, 20, 30, 40]
    assert op.parts(7, 3) == [1, 2, 4]
    assert op.parts(1, 3) == [0, 0, 1]
    assert OPS["all_gather"].parts(100, 4) == [25] * 4
    assert [op.elements_of(400, 4, rank, 4, 0) for rank in range(4)] == [(n, 100) for n in (10, 20, 30, 40)]
    pairs = [[op.pair([10, 20, 30], i, j) for j in range(3)] for i in range(3)]
    assert pairs == [[10, 20, 30], [20, 30, 10], [30, 10, 20]]


def test_only_the_root_has_the_buffer_that_only_its_call_uses() -> None:
    for name, there, elsewhere in (
        ("reduce", (90, 90), (90, 0)),
        ("gather", (30, 90), (30, 0)),
        ("scatter", (90, 30), (0, 30)),
        ("broadcast", (90, 90), (90, 90)),
        ("barrier", (0, 0), (0, 0)),
    ):
        size = 0 if name == "barrier" else 360
        assert OPS[name].elements_of(size, 4, 2, 3, root=2) == there
        assert OPS[name].elements_of(size, 4, 1, 3, root=2) == elsewhere


@pytest.mark.parametrize("name", ["gather", "scatter", "send_recv", "all_gather_v", "all_to_all_v"])
def test_sends_and_receives_of_all_ranks_do_what_the_call_does(name: str) -> None:
    call, world_size = Call(OPS[name], "float32", "none", False, root=1), 3
    ranks = filled(call, 24000, world_size)
    lists = [
        transfers(call, whole_of(call, buffers, world_size), rank, world_size)
        for rank, buffers in enumerate(ranks)
    ]
    for rank, (sent, _) in enumerate(lists):
        for peer, start, count in sent:
            (there,) = [(at, n) for source, at, n in lists[peer][1] if source == rank]
            assert there[1] == count
            ranks[peer].recv.array[there[0] : there[0] + count] = ranks[rank].send.array[
                start : start + count
            ]
    assert wrong_counts(call, ranks) == [0] * world_size


def test_the_check_crosses_the_borders_of_its_chunks() -> None:
    for name in OPS:
        call = Call(OPS[name], "int8", "sum" if OPS[name].reduces else "none", in_place=False)
        ranks = filled(call, 3 * (2**20 + 333), 3)
        perform(call, ranks)
        assert wrong_counts(call, ranks) == [0, 0, 0]


# --- measuring


class WorldOfTwo:
    """Rank 0 of two ranks; the other always reports twice this rank's numbers, and `other_text`."""

    rank, size = 0, 2
    other_text = ""

    def __init__(self) -> None:
        self.barriers = 0

    def barrier(self) -> None:
        self.barriers += 1

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        return [list(values), [2 * value for value in values]]

    def texts(self, text: str) -> list[str]:
        return [text, self.other_text]

    def share(self, text: str) -> str:
        return text

    def close(self) -> None:
        pass


def test_a_problem_names_its_rank_unless_all_have_it() -> None:
    world = WorldOfTwo()
    assert first_problem(world, "") == ""
    assert first_problem(world, "too hot") == "rank 0: too hot"
    world.other_text = "too hot"
    assert first_problem(world, "") == "rank 1: too hot"
    assert first_problem(world, "too hot") == "too hot"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_percentiles_are_members_that_enough_values_do_not_exceed(values: list[float]) -> None:
    for percent in (50, 99, 100):
        value = percentile(values, percent)
        assert value in values
        assert sum(v <= value for v in values) * 100 >= percent * len(values)
        assert sum(v < value for v in values) * 100 < percent * len(values)


def test_percentile_and_median_of_a_known_list() -> None:
    values = [float(v) for v in range(100, 0, -1)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (50.0, 99.0, 100.0)
    assert percentile([3.0], 1) == 3.0
    assert (median(values), median([3.0, 1.0, 2.0]), median([7.0])) == (50.5, 2.0, 7.0)


def test_slow_calls_are_made_less_often() -> None:
    effort = Effort(iterations=1000, budget=0.5)
    assert planned_samples(1e-6, 1, effort) == 1000
    assert planned_samples(0.01, 1, effort) == 50
    assert planned_samples(3.0, 1, effort) == ROUNDS
    assert planned_samples(0.0, 1, effort) == 1000
    assert planned_samples(1e-6, 1, Effort(iterations=18)) == 15
    assert planned_samples(1e-6, 20, effort) == 50
    assert planned_samples(1e-6, 400, effort) == ROUNDS


def test_contestants_take_turns_and_the_slowest_rank_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0
    order: list[str] = []

    def contestant(name: str, nanoseconds: int) -> Prepared:
        def run() -> None:
            nonlocal now
            now += nanoseconds
            order.append(name)

        return Prepared(run)

    monkeypatch.setattr("hipcomm_bench.clock._now", lambda: now)
    world = WorldOfTwo()
    calls = {"a": contestant("a", 100), "b": contestant("b", 300)}
    timings = measure(calls, world, Effort(10, 2), EachCall())
    assert timings["a"].p50 == timings["a"].p99 == pytest.approx(200e-9)
    assert timings["b"].p50 == pytest.approx(600e-9)
    assert timings["a"].calls == timings["b"].calls == 10
    assert (timings["a"].batch, timings["a"].host) == (1, None)
    assert "".join(order) == "aabb" + "aaabbb" * ROUNDS
    assert world.barriers == 2 + 2 * ROUNDS


def test_a_call_that_only_enqueues_is_timed_to_its_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0

    def pass_time(nanoseconds: int) -> None:
        nonlocal now
        now += nanoseconds

    monkeypatch.setattr("hipcomm_bench.clock._now", lambda: now)
    prepared = Prepared(lambda: pass_time(10), wait=lambda: pass_time(90))
    assert EachCall().take(prepared, 3).times == pytest.approx([100e-9] * 3)


# --- tables and reports


def make_row(contestant: str, size: int, p50_us: float, in_place: bool = True, wrong: int | None = 0) -> Row:
    return Row(contestant, size, size // 4, in_place, p50_us, 2 * p50_us, 1.0, 1.5, 100, wrong)


OPTIONS = Options(
    op="all_reduce",
    dtype="float32",
    redop="sum",
    sizes=[1024, 2**20],
    iterations=100,
    warmup=5,
    budget=0.1,
    check=True,
    contestants=["hipcomm", "openmpi", "gloo"],
    modes=[True],
)
JOB = Job(
    ranks=4,
    launcher="mpirun -n 4",
    notes=["a note"],
    versions={"hipcomm": "1.0", "openmpi": "4.1"},
    missing={"gloo": "no torch"},
    rows=[
        make_row("hipcomm", 1024, 2.0),
        make_row("openmpi", 1024, 5.0, wrong=3),
        make_row("hipcomm", 2**20, 123.4),
    ],
)
COMPARISON = [
    ["size", "hipcomm µs", "openmpi µs", "openmpi / hipcomm"],
    ["1 KiB", "2.00", "5.00", "2.50"],
    ["1 MiB", "123", "-", "-"],
]


def test_comparison() -> None:
    assert comparison(JOB, OPTIONS, in_place=True) == COMPARISON
    assert comparison(JOB, OPTIONS, in_place=False) == [
        ["size", "hipcomm µs"],
        ["1 KiB", "-"],
        ["1 MiB", "-"],
    ]
    assert JOB.modes() == [True]
    assert JOB.wrong() == 3


def test_comparison_of_what_calls_cost_the_host() -> None:
    rows = [
        replace(make_row("hipcomm", 1024, 2.0), host_us=1.5),
        replace(make_row("openmpi", 1024, 5.0), host_us=6.0),
        replace(make_row("hipcomm", 2**20, 2.0), host_us=1.5),
        make_row("openmpi", 2**20, 5.0),
    ]
    job = Job(ranks=2, rows=rows)
    assert job.has_host_times() and not JOB.has_host_times()
    assert comparison(job, OPTIONS, in_place=True, host=True)[1:] == [
        ["1 KiB", "1.50", "6.00", "4.00"],
        ["1 MiB", "1.50", "-", "-"],
    ]


def test_aligned_and_markdown_tables() -> None:
    assert align([["a", "bb"], ["ccc", "d"]]) == "  a  bb\nccc   d"
    assert markdown([["a", "b"], ["c", "d"]]) == "| a | b |\n| ---: | ---: |\n| c | d |"


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(0.5, "0.50"), (9.99, "9.99"), (10.0, "10.0"), (99.94, "99.9"), (26900.4, "26900")],
)
def test_format_us(microseconds: float, text: str) -> None:
    assert format_us(microseconds) == text


def test_nccl_lines_stand_under_their_heading() -> None:
    out_of_place = replace(make_row("hipcomm", 1024, 1.0, in_place=False, wrong=None), host_us=0.5)
    both = nccl_line(OPTIONS, out_of_place, JOB.rows[0])
    words = "1024 256 float32 sum 1.00 2.00 0.50 1.00 1.50 N/A 2.00 4.00 - 1.00 1.50 0 hipcomm"
    assert " ".join(both.split()) == words
    half = nccl_line(OPTIONS, None, JOB.rows[1])
    assert " ".join(half.split()) == "1024 256 float32 sum - - - - - - 5.00 10.0 - 1.00 1.50 3 openmpi"
    heading = nccl_header().splitlines()[1]
    for line in (both, half):
        assert line.index(line.split()[-1]) == heading.index("contestant")
    assert nccl_line(OPTIONS, None, None) == ""


def test_the_closing_lines_are_nccl_tests() -> None:
    assert closing_lines([JOB]) == ["# Out of bounds values : 3 FAILED", "# Avg bus bandwidth    : 1.5", "#"]
    right = Job(ranks=2, rows=[replace(JOB.rows[0], busbw=2.0), replace(JOB.rows[2], busbw=1.0)])
    assert closing_lines([right])[:2] == ["# Out of bounds values : 0 OK", "# Avg bus bandwidth    : 1.5"]
    unchecked = Job(ranks=2, rows=[replace(JOB.rows[0], wrong=None)])
    assert closing_lines([unchecked])[0] == "# Out of bounds values : not checked"


def test_report_files_hold_everything(tmp_path: Path) -> None:
    report = Report({"processor": "a fast one"}, "hipcomm-bench -g 4", "2026-01-01", OPTIONS, [JOB])
    json_file, markdown_file, csv_file = write(report, tmp_path / "new" / "cpu-4.2")
    names = [file.name for file in (json_file, markdown_file, csv_file)]
    assert names == ["cpu-4.2.json", "cpu-4.2.md", "cpu-4.2.csv"]
    cells = list(csv.DictReader(csv_file.open(newline="", encoding="utf-8")))
    assert [(each["contestant"], float(each["time_us"]), each["size_bytes"]) for each in cells] == [
        (row.contestant, row.p50_us, str(row.size)) for row in JOB.rows
    ]
    assert (cells[1]["ranks"], cells[1]["version"], cells[1]["wrong"]) == ("4", "4.1", "3")
    data = json.loads(json_file.read_text(encoding="utf-8"))
    assert data["schema"] == 3
    assert [Job.from_dict(job) for job in data["jobs"]] == [JOB]
    assert Options.from_dict(data["options"]) == OPTIONS
    page = markdown_file.read_text(encoding="utf-8")
    assert page == to_markdown(report)
    assert markdown(COMPARISON) in page
    for text in ("a fast one", "`hipcomm-bench -g 4`, 2026-01-01", "gloo did not run: no torch", "- a note"):
        assert text in page


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    report = Report({}, "hipcomm-bench", "2026-01-01", OPTIONS, [JOB, JOB])
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        file = tmp_path / "new" / f"plot{suffix}"
        assert why_not(file) is None
        draw(report, file)
        assert file.read_bytes().startswith(start)
    text = (tmp_path / "new" / "plot.svg").read_text("utf-8")
    for contestant in ("hipcomm", "openmpi"):
        assert f"<!-- {contestant} -->" in text
    assert "<!-- gloo -->" not in text


def test_a_job_without_figures_can_be_drawn(tmp_path: Path) -> None:
    draw(Report({}, "", "", OPTIONS, [Job(ranks=2)]), tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").exists()


def test_the_bar_stays_below_the_lines() -> None:
    out = io.StringIO()
    Bar(out).show(["a line\n", mark(1, 4, "64 KiB in-place") + "\n", "another\n"])
    erased = out.getvalue().split("\r\x1b[2K")
    assert erased[1] == "a line\n"
    assert erased[2].startswith("[########----------------------] 1/4 64 KiB in-place, about ")
    assert erased[3].startswith("another\n[########--")
    assert erased[4] == ""


def test_nvidia_smi_is_understood() -> None:
    answer = (
        "0, NVIDIA H200, 00000000:04:00.0, 580.1, 1980 MHz, 1980 MHz, 3201 MHz, 120.10 W, 700.00 W, 41\n\n"
    )
    (gpu,) = parse_gpus(answer)
    assert gpu["name"] == "NVIDIA H200"
    assert (gpu["driver"], gpu["SM clock"], gpu["degrees C"]) == ("580.1", "1980 MHz", "41")


# --- the command


def test_names_of_contestants_are_resolved() -> None:
    assert resolve("all_reduce", ["hipcomm", "torch-symm", "nccl", "torch-symm-one-shot"]) == [
        "hipcomm",
        "torch-symm-one-shot",
        "torch-symm-two-shot",
        "nccl",
    ]


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run hipcomm-bench with at most two minutes to spend."""
    command = [sys.executable, "-m", "hipcomm_bench", *arguments]
    environment = {**os.environ, "HIPCOMM_PLATFORM": "cpu"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def test_the_command_measures_and_checks(tmp_path: Path) -> None:
    result = run_command(
        "-g", "2", "-b", "4", "-e", "64K", "-f", "128", "-n", "20", "--output", str(tmp_path / "r")
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (job,) = (Job.from_dict(job) for job in json.loads((tmp_path / "r.json").read_text("utf-8"))["jobs"])
    assert job.ranks == 2
    assert [(r.size, r.in_place, r.wrong) for r in job.rows] == [
        (size, in_place, 0) for size in (4, 512, 65536) for in_place in (False, True)
    ]
    assert all(0 < row.p50_us <= row.p99_us for row in job.rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-b", "1X"], "'1X' is not a size"),
        (["-b", "2K", "-e", "1K"], "no sizes from 2048 to 1024 bytes"),
        (["-f", "1"], "the step factor is 1"),
        (["--compare", "openmpi,netcat"], "'netcat' is none of hipcomm, hipcomm-symm,"),
        (["--plot", "picture.gif"], "picture.gif ends in neither of .png, .svg"),
        (["all_scatter"], "'all_scatter' is not one of"),
        (["all_gather", "--shape", "4x7", "--dim", "1"], "dimension 1 of 4x7 does not split over 2 ranks"),
        (["all_gather", "--shape", "4x8", "--dim", "2"], "4x8 has no dimension 2"),
        (["all_gather", "--shape", "4y8"], "'4y8' is not a shape"),
        (
            ["broadcast", "--shape", "4x8"],
            "--shape goes with all_gather and reduce_scatter, not with broadcast",
        ),
        (["reduce", "-r", "2"], "there is no rank 2 in a world of 2"),
        (["--hidden", "8"], "--hidden does not go with all_reduce"),
    ],
)
def test_the_command_refuses(arguments: list[str], message: str) -> None:
    result = run_command(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_command_reads_nccl_tests_spellings(tmp_path: Path) -> None:
    result = run_command(
        *("alltoall_perf", "--ngpus", "2", "--minbytes", "1K", "--maxbytes", "3K", "--stepbytes", "1K"),
        *("-d", "half", "--warmup_iters", "1", "--iters", "10", "--budget", "0.01", "--mode", "out-of-place"),
        *("--output", str(tmp_path / "r")),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    data = json.loads((tmp_path / "r.json").read_text("utf-8"))
    options = Options.from_dict(data["options"])
    assert (options.op, options.dtype, options.warmup, options.iterations) == ("all_to_all", "float16", 1, 10)
    assert [row["size"] for row in data["jobs"][0]["rows"]] == [1024, 2048, 3072]
    lines = result.stdout.splitlines()
    first, header = "# platform: cpu, HIP ", "#       size       count"
    places = [next(i for i, line in enumerate(lines) if line.startswith(t)) for t in (first, header)]
    assert places[0] < places[1]
    assert any(line.startswith("# rank 1: hipcomm CPU device 1") for line in lines[: places[1]])
    assert any(line.startswith("# hipcomm 0.") for line in lines[: places[1]])
    assert "# Out of bounds values : 0 OK" in lines
