"""hipcomm-bench fused: inputs, expected numbers, the check, contestants played by stand-ins, the command."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import norm_oracle
import numpy as np
import pytest
from bench_stand_ins import FAKE_NCCL
from harness import PLATFORM

from hipcomm_bench import worker
from hipcomm_bench.clock import Prepared
from hipcomm_bench.contestants import Unsupported, nccl_api
from hipcomm_bench.memory import Buffer, HostMemory, allocate
from hipcomm_bench.norms import others, quantise
from hipcomm_bench.norms.contestants import NORM_CONTESTANTS
from hipcomm_bench.norms.ours import Hipcomm
from hipcomm_bench.norms.rows import (
    DTYPES,
    EPS,
    NORMS,
    NormContestant,
    Norms,
    NormTask,
    Result,
    Rows,
    numbers,
)
from hipcomm_bench.plot import draw
from hipcomm_bench.results import Job, Options, Report
from hipcomm_bench.session import Session, begin
from hipcomm_bench.subjects import Subject, curves
from hipcomm_bench.table import comparison, nccl_line

SHAPES: list[tuple[int, ...]] = [(1, 96), (30, 96), (3, 1000)]
OPTIONS = Options(
    op="fused",
    dtype="bfloat16",
    redop="sum",
    sizes=[2 * tokens * hidden for tokens, hidden in SHAPES],
    iterations=40,
    warmup=2,
    budget=0.02,
    check=True,
    contestants=["hipcomm"],
    modes=[False],
    shapes=SHAPES,
    norm="rms_norm",
)


@pytest.fixture(autouse=True)
def one_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stay on the platform of the other tests in this process, and do not find another one."""
    monkeypatch.setenv("HIPCOMM_PLATFORM", PLATFORM)


@pytest.fixture
def session() -> Iterator[Session]:
    session = begin("bfloat16", max(OPTIONS.sizes), graph=1)
    yield session
    session.world.close()


# --- what is measured


def test_subjects_have_names_and_make_curves() -> None:
    assert [subject.label for subject in OPTIONS.subjects] == ["1 x 96", "30 x 96", "3 x 1000"]
    assert Subject(65536).label == "64 KiB"
    grouped = curves(OPTIONS.subjects)
    assert {length: [s.shape[0] for s in subjects] for length, subjects in grouped.items()} == {
        96: [1, 30],
        1000: [3],
    }


# --- numbers


@pytest.mark.parametrize("dtype", DTYPES)
def test_expected_numbers_are_the_oracles(dtype: str) -> None:
    for world_size, whole in ((1, False), (3, False), (16, True)):
        inputs = numbers(1000, dtype, world_size, whole)
        for result in Result:
            total = inputs.x[0] if result is Result.LOCAL else norm_oracle.sum_over_ranks(inputs.x)
            v = norm_oracle.add_residual(total, inputs.residual)
            rms = norm_oracle.rms_norm(v, inputs.weight, EPS)
            layer = norm_oracle.layer_norm(v, inputs.weight, inputs.bias, EPS)
            for norm, y in (("rms_norm", rms), ("layer_norm", layer)):
                got = inputs.results(norm, result, 0)
                wanted = {"out": total} if result is Result.SUM else {"out": y, "residual_out": v}
                assert {name: rows.tobytes() for name, rows in got.items()} == {
                    name: rows.tobytes() for name, rows in wanted.items()
                }


@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_numbers_add_up_exactly_in_any_order(dtype: str) -> None:
    inputs = numbers(512, dtype, 16, whole=True)
    exact = sum(x.astype(np.float64) for x in inputs.x) + inputs.residual.astype(np.float64)
    rounded = inputs.residual
    for x in reversed(inputs.x):
        rounded = rounded + x  # in the dtype itself
    assert np.array_equal(rounded.astype(np.float64), exact)


def test_another_order_shows_in_hipcomms_numbers() -> None:
    inputs = numbers(512, "float32", 4, whole=False)
    reverse = norm_oracle.sum_over_ranks(inputs.x[::-1])
    assert (reverse != norm_oracle.sum_over_ranks(inputs.x)).mean() > 0.1
    v = norm_oracle.add_residual(reverse, inputs.residual)
    assert (
        norm_oracle.rms_norm(v, inputs.weight, EPS) != inputs.results("rms_norm", Result.FUSED, 0)["out"]
    ).any()


# --- the check


class Ours(NormContestant):
    """The oracle, on this rank's memory."""

    name: ClassVar[str] = "oracle"
    platforms: ClassVar[tuple[str, ...]] = ("amd", "nvidia", "cpu")
    ours: ClassVar[bool] = True
    version = "1"

    @classmethod
    def why_missing(cls) -> str | None:
        return None

    def __init__(self, session: Session) -> None:
        pass

    def close(self) -> None:
        pass


class Other(Ours):
    ours: ClassVar[bool] = False


class Sums(Other):
    result = Result.SUM


class Local(Ours):
    result = Result.LOCAL


def a_task(norm: str, tokens: int, hidden: int, world_size: int, rank: int = 0) -> tuple[NormTask, Rows]:
    """A task in host memory, as a rank of any world."""
    world = SimpleNamespace(rank=rank, size=world_size)
    size = 4 * tokens * hidden
    rows = [Buffer(HostMemory(size + 8), 4, tokens * hidden, "float32", (tokens, hidden)) for _ in range(4)]
    parameters = [Buffer(HostMemory(4 * hidden), 0, hidden, "float32") for _ in range(2)]
    arguments = Rows(norm, *rows, *parameters)
    return NormTask(arguments, (tokens, hidden), SimpleNamespace(world=world)), arguments  # type: ignore[arg-type]


def write_oracle(rows: Rows, library: NormContestant, world_size: int) -> None:
    """Do what the contestant has to, from the inputs as they are in memory; other ranks' by their rule."""
    hidden = rows.x.shape[1]
    inputs = numbers(hidden, "float32", world_size, not library.ours)
    repeat = np.arange(rows.x.shape[0]) % len(inputs.residual)
    ranks = [rows.x.array, *(x[repeat] for x in inputs.x[1:])]
    total = rows.x.array if library.result is Result.LOCAL else norm_oracle.sum_over_ranks(ranks)
    if library.result is Result.SUM:
        rows.out.array[...] = total
        return
    v = norm_oracle.add_residual(total, rows.residual.array)
    rows.residual_out.array[...] = v
    weight, bias = rows.weight.array, rows.bias.array
    if rows.norm == "rms_norm":
        rows.out.array[...] = norm_oracle.rms_norm(v, weight, EPS)
    else:
        rows.out.array[...] = norm_oracle.layer_norm(v, weight, bias, EPS)


@pytest.mark.parametrize("kind", [Ours, Other, Sums, Local])
@pytest.mark.parametrize("norm", NORMS)
def test_a_right_result_counts_as_right_and_an_untouched_one_as_wrong(
    norm: str, kind: type[NormContestant]
) -> None:
    for tokens, hidden, world_size in ((1, 1, 1), (29, 100, 3), (2000, 1111, 2)):  # the last: several chunks
        task, rows = a_task(norm, tokens, hidden, world_size)
        library = kind(None)  # type: ignore[arg-type]
        task.fill(library)
        elements = tokens * hidden * (1 if kind is Sums else 2)
        untouched = task.count_wrong(library)  # what is there is near to a zero that others may have
        assert untouched == elements or (kind is Other and untouched > 0.95 * elements)
        write_oracle(rows, library, world_size)
        assert task.count_wrong(library) == 0


def test_one_bit_is_wrong_of_hipcomm_and_near_of_others() -> None:
    for kind, units, wrong in ((Ours, 1, 1), (Other, 1, 0), (Other, 30, 0), (Other, 100, 1)):
        task, rows = a_task("rms_norm", 20, 96, 2)
        library = kind(None)  # type: ignore[arg-type]
        task.fill(library)
        write_oracle(rows, library, 2)
        place = np.unravel_index(np.argmax(rows.out.array), rows.out.array.shape)
        rows.out.array[place] += units * np.spacing(rows.out.array[place])
        assert task.count_wrong(library) == wrong, (kind, units)


def test_others_residuals_and_sums_are_compared_bit_by_bit_and_a_nan_is_wrong() -> None:
    for kind, name in ((Other, "residual_out"), (Sums, "out")):
        task, rows = a_task("rms_norm", 20, 96, 2)
        library = kind(None)  # type: ignore[arg-type]
        task.fill(library)
        write_oracle(rows, library, 2)
        array = getattr(rows, name).array
        array[7, 3] = np.nextafter(array[7, 3], np.float32(np.inf))
        assert task.count_wrong(library) == 1
    task, rows = a_task("rms_norm", 20, 96, 2)
    library = Other(None)  # type: ignore[arg-type]
    task.fill(library)
    write_oracle(rows, library, 2)
    rows.out.array[1, 1] = np.nan
    assert task.count_wrong(library) == 1


def test_rows_that_swap_places_are_wrong() -> None:
    task, rows = a_task("rms_norm", 64, 96, 2)
    library = Other(None)  # type: ignore[arg-type]
    task.fill(library)
    write_oracle(rows, library, 2)
    rows.residual_out.array[...] = np.concatenate(
        [rows.residual_out.array[32:], rows.residual_out.array[:32]]
    )
    assert task.count_wrong(library) > 64 * 96 * 0.9


def test_bandwidths_are_those_of_the_all_reduce() -> None:
    task, _ = a_task("rms_norm", 250, 1000, 4)
    assert task.count == 250_000
    assert task.bandwidths(Ours(None), 1e-3) == (1.0, 1.5)  # type: ignore[arg-type]
    assert task.bandwidths(Local(None), 1e-3) == (1.0, 0.0)  # type: ignore[arg-type]


# --- a rank


def run_rank(options: Options) -> Job:
    """Run the only rank of a job; what it found."""
    kept: list[Job] = []
    worker.run(options, lambda line: None, kept.append)
    return kept[-1]


@pytest.mark.parametrize("graph", [0, 4])
@pytest.mark.parametrize("norm", NORMS)
def test_hipcomms_ways_are_measured_and_right(norm: str, graph: int) -> None:
    names = [name for name, kind in NORM_CONTESTANTS.items() if kind.__module__.endswith("ours")]
    assert names == [
        "hipcomm",
        "hipcomm-pair",
        "all_reduce",
        "add-norm",
        "hipcomm:one_shot",
        "hipcomm:two_shot",
        "hipcomm:staged",
        "hipcomm:pipelined",
    ]
    job = run_rank(replace(OPTIONS, norm=norm, graph=graph, contestants=names))
    assert not job.missing and not job.unsupported
    assert {(row.contestant, row.shape): row.wrong for row in job.rows} == {
        (name, shape): 0 for name in names for shape in SHAPES
    }


def test_a_call_with_another_epsilon_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sloppy(Hipcomm):
        def prepare(self, rows: Rows) -> Prepared:
            run = super()._call(rows)
            arguments = [1e-2 if each is EPS else each for each in run.args]  # type: ignore[attr-defined]
            return Prepared(lambda: run.func(*arguments, **run.keywords))  # type: ignore[attr-defined]

    monkeypatch.setitem(NORM_CONTESTANTS, "hipcomm", Sloppy)
    assert run_rank(replace(OPTIONS, shapes=SHAPES[:1], sizes=OPTIONS.sizes[:1], graph=0)).wrong() > 0


@pytest.mark.host_arrays
def test_nccl_then_hipcomm(session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "libnccl.so.2"
    command = ["g++", "-x", "c++", "-shared", "-fPIC", "-Wall", "-Werror", "-", "-o", str(library)]
    subprocess.run(command, input=FAKE_NCCL, text=True, check=True, timeout=60)
    monkeypatch.setattr(nccl_api, "candidates", lambda platform: iter([str(library)]))
    workload = Norms(OPTIONS, session)
    contestant = others.NcclHipcomm(session)
    assert contestant.version.startswith("NCCL 2.28.9, hipcomm ")
    for subject in OPTIONS.subjects:
        task = workload.task(subject, in_place=False)
        task.fill(contestant)
        prepared = task.prepare(contestant)
        prepared.run()
        prepared.wait()
        assert task.count_wrong(contestant) == 0
        record = ctypes.CDLL(str(library)).fake_record
        record.restype = ctypes.c_char_p
        assert record().decode().split()[0] == "AllReduce"
        assert record().decode().split()[3:6] == [str(task.count), "9", "0"]
    contestant.close()
    workload.free()


class FlashInferPlayed:
    """flashinfer.comm, played by NumPy in what it takes for a world of two."""

    AllReduceFusionPattern = SimpleNamespace(kARResidualRMSNorm="residual and norm")

    def __init__(self) -> None:
        self.workspaces: list[tuple[Any, ...]] = []
        self.calls: list[dict[str, Any]] = []
        self.destroyed: list[Any] = []

    def trtllm_create_ipc_workspace_for_all_reduce_fusion(self, *arguments: Any, **keywords: Any) -> Any:
        self.workspaces.append((*arguments, keywords["use_fp32_lamport"]))
        return f"handles {arguments[3]}", f"workspace {arguments[3]}"

    def trtllm_destroy_ipc_workspace_for_all_reduce_fusion(self, handles: Any, group: Any) -> None:
        self.destroyed.append(handles)

    def trtllm_allreduce_fusion(self, **keywords: Any) -> None:
        self.calls.append(keywords)


def test_flashinfer_gets_what_its_documentation_asks_for(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = FlashInferPlayed()
    group = SimpleNamespace(
        tensor=lambda buffer: np.zeros(buffer.count, np.uint16).view(_Viewed),
        distributed=SimpleNamespace(group=SimpleNamespace(WORLD="world")),
        leave=lambda: None,
    )
    monkeypatch.setattr(others, "TorchGroup", lambda session: group)
    monkeypatch.setattr(others, "import_module", lambda name: played)
    monkeypatch.setattr(others, "version", lambda name: "0.6")
    with pytest.raises(Unsupported, match="2, 4 or 8 ranks"):
        others.FlashInferFused(session)
    two = replace(session, world=SimpleNamespace(rank=1, size=2))  # type: ignore[arg-type]
    contestant = others.FlashInferFused(two)
    memory = allocate(session.device, 4096)

    def rows(norm: str, tokens: int, hidden: int) -> Rows:
        whole = [Buffer(memory, 0, tokens * hidden, "bfloat16", (tokens, hidden)) for _ in range(4)]
        return Rows(norm, *whole, *(Buffer(memory, 0, hidden, "bfloat16") for _ in range(2)))

    contestant.prepare(rows("rms_norm", 2, 96)).run()
    contestant.prepare(rows("rms_norm", 4, 96)).run()
    contestant.prepare(rows("rms_norm", 1, 1000)).run()
    assert played.workspaces == [(1, 2, (64 << 20) // 2 // hidden, hidden, False) for hidden in (96, 1000)]
    call = played.calls[1]
    assert (call["token_num"], call["hidden_dim"], call["workspace_ptrs"]) == (4, 96, "workspace 96")
    assert (call["pattern_code"], call["rms_eps"]) == ("residual and norm", EPS)
    assert {
        name: call[name].shape for name in ("allreduce_in", "residual_in", "residual_out", "norm_out")
    } == dict.fromkeys(("allreduce_in", "residual_in", "residual_out", "norm_out"), (4, 96))
    assert call["rms_gamma"].shape == (96,)
    with pytest.raises(Unsupported, match="no fused layer_norm"):
        contestant.prepare(rows("layer_norm", 1, 96))
    with pytest.raises(Unsupported, match="up to 64 MiB"):
        contestant.prepare(rows("rms_norm", 8193, 4096))
    contestant.close()
    assert played.destroyed == ["handles 96", "handles 1000"]
    memory.free()


class _Viewed(np.ndarray[Any, Any]):
    def view(self, shape: Any) -> Any:  # type: ignore[override]
        return np.asarray(self).reshape(shape)


@pytest.mark.parametrize("norm", NORMS)
def test_numpys_add_norm_is_near_enough(norm: str) -> None:
    task, rows = a_task(norm, 40, 1000, 1)
    library = Other(None)  # type: ignore[arg-type]
    task.fill(library)
    rows.out.array[...] = rows.x.array
    parameters = [parameter.array for parameter in rows.parameters]
    others._numpy_add_norm(rows.out.array, rows.residual.array, rows.residual_out.array, *parameters)
    assert task.count_wrong(library) == 0


# --- tables, the plot, the command


def test_rows_have_their_place_in_tables_and_plots(tmp_path: Path) -> None:
    job = run_rank(replace(OPTIONS, contestants=["hipcomm", "hipcomm-pair"]))
    table = comparison(job, OPTIONS_OF_TWO, in_place=False)
    assert table[0][:3] == ["rows", "hipcomm µs", "hipcomm-pair µs"]
    assert [line[0] for line in table[1:]] == ["1 x 96", "30 x 96", "3 x 1000"]
    line = nccl_line(OPTIONS_OF_TWO, job.find("hipcomm", OPTIONS.subjects[1], False), None)
    assert line.split()[:4] == ["5760", "2880", "bfloat16", "rms_norm"]
    assert line.endswith("hipcomm             30 x 96")
    draw(Report({}, "", "", OPTIONS_OF_TWO, [job]), tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text("utf-8")
    assert "rows of 96" in text and "rows of 1000" in text


OPTIONS_OF_TWO = replace(OPTIONS, contestants=["hipcomm", "hipcomm-pair"])


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run hipcomm-bench fused with at most two minutes to spend."""
    command = [sys.executable, "-m", "hipcomm_bench", "fused", *arguments]
    environment = {**os.environ, "HIPCOMM_PLATFORM": "cpu"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def test_the_command_measures_rows_and_says_who_is_missing(tmp_path: Path) -> None:
    result = run_command(
        *("-g", "2", "--hidden", "96", "--hidden", "128", "--tokens", "1", "--tokens", "20"),
        *("-n", "20", "--budget", "0.02", "--compare", "all,algorithms", "--output", str(tmp_path / "r")),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    data = json.loads((tmp_path / "r.json").read_text("utf-8"))
    (job,) = (Job.from_dict(job) for job in data["jobs"])
    assert [r.shape for r in job.rows if r.contestant == "hipcomm"] == [
        (1, 96),
        (20, 96),
        (1, 128),
        (20, 128),
    ]
    assert all(row.wrong == 0 for row in job.rows)
    assert set(job.versions) | set(job.missing) == set(NORM_CONTESTANTS)
    assert job.missing["flashinfer"] == "it needs the platform nvidia, this is cpu"
    assert "fused, float32, rms_norm" in (tmp_path / "r.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-b", "1K"], "-b does not go with fused"),
        (["--mode", "in-place"], "--mode does not go with fused"),
        (["-d", "int32"], "norms are of float16, bfloat16, float32, not of int32"),
        (["--compare", "gloo"], "'gloo' is none of hipcomm, hipcomm-pair,"),
    ],
)
def test_the_command_refuses(arguments: list[str], message: str) -> None:
    result = run_command(*arguments)
    assert result.returncode == 2
    assert message in result.stderr


# --- quantised outputs


def quantised_by_the_oracle(text: str, y: Any) -> tuple[Any, Any]:
    name, _, group = text.partition(":")
    if name == "fp8_given_scale":
        return norm_oracle.fp8_given_scale(y, float(quantise.GIVEN_SCALE)), None
    if name.startswith("fp8"):
        found = norm_oracle.fp8_per_group(y, {"fp8_per_token": y.shape[1]}.get(name, int(group or 128)))
        return found.codes, found.scales
    found = norm_oracle.mxfp4(y) if name == "mxfp4" else norm_oracle.nvfp4(y, float(quantise.GLOBAL_SCALE))
    return norm_oracle.pack_fours(found.codes), found.scales


@pytest.mark.parametrize("text", [*quantise.FORMATS, "fp8_per_group:32", "fp8_per_group:512"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_expected_codes_and_scales_are_the_oracles(text: str, dtype: str) -> None:
    for hidden in (1, 31, 100, 512, 1001):
        inputs = numbers(hidden, dtype, 2, whole=False)
        y = inputs.results("rms_norm", Result.FUSED, 0)["out"]
        y[0], y[1, : hidden // 2] = 0, 0
        codes, scales = quantise.parse(text).apply(y)
        wanted, wanted_scales = quantised_by_the_oracle(text, y)
        assert codes.shape == (len(y), quantise.parse(text).code_bytes(hidden))
        assert np.array_equal(codes, wanted)
        if wanted_scales is None:
            assert scales is None and quantise.parse(text).scales_of(hidden) == 0
        else:
            assert scales is not None
            assert scales.dtype.name == quantise.parse(text).scales_dtype
            assert scales.shape == (len(y), quantise.parse(text).scales_of(hidden))
            assert scales.tobytes() == wanted_scales.tobytes()


@pytest.mark.parametrize(
    "text", ["fp4", "fp8_per_token:64", "fp8_per_group:48", "fp8_per_group:", "mxfp4:32"]
)
def test_formats_that_there_are_not(text: str) -> None:
    with pytest.raises(ValueError, match=r"is none of|takes a group of"):
        quantise.parse(text)


@pytest.mark.parametrize("text", [*quantise.FORMATS, "fp8_per_group:64"])
def test_quantised_outputs_are_measured_and_right(text: str) -> None:
    names = ["hipcomm", "hipcomm-pair", "add-norm", "all_reduce"]
    job = run_rank(replace(OPTIONS, quantised=text, contestants=names, graph=0))
    assert not job.missing and not job.unsupported
    assert {(row.contestant, row.shape): row.wrong for row in job.rows} == {
        (name, shape): 0 for name in names for shape in SHAPES
    }


def test_wrong_codes_and_scales_are_counted(session: Session) -> None:
    workload = Norms(replace(OPTIONS, quantised="fp8_per_group:32"), session)
    task = workload.task(OPTIONS.subjects[1], in_place=False)
    contestant = Hipcomm(session)
    task.fill(contestant)
    assert task.count_wrong(contestant) == 30 * (96 + 96 + 3)  # residual_out, codes, scales
    prepared = task.prepare(contestant)
    prepared.run()
    prepared.wait()
    assert task.count_wrong(contestant) == 0
    for buffer in (task._rows.codes, task._rows.scales):
        assert buffer is not None
        byte = buffer.memory.read(buffer.offset + 40, 1).copy()
        buffer.memory.write(buffer.offset + 40, byte ^ 1)
    assert task.count_wrong(contestant) == 2
    contestant.close()
    workload.free()
