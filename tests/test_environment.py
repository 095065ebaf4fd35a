"""The environment table: parsing, identities, and that the documentation shows the same table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hipcomm
from hipcomm.environment import VARIABLES, Identity, Settings, markdown_table
from hipcomm.errors import InvalidArgument

DOCS = Path(__file__).parent.parent / "docs"


def test_documentation_shows_the_table():
    assert markdown_table() in (DOCS / "environment.md").read_text()


def test_table_is_printed_by_the_module():
    result = subprocess.run(
        [sys.executable, "-m", "hipcomm.environment"], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout == markdown_table()


def test_defaults_of_settings_are_those_of_the_table():
    assert Settings.read({}) == Settings()
    defaults = {variable.name: variable.default for variable in VARIABLES if variable.default}
    assert Settings.read(defaults) == Settings()


def test_empty_variables_count_as_unset():
    assert Settings.read({variable.name: "" for variable in VARIABLES}) == Settings()
    assert Identity.read({"HIPCOMM_RANK": "", "RANK": ""}) == Identity()


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("HIPCOMM_PLATFORM", "cpu", "platform", "cpu"),
        ("HIPCOMM_DEVICE", "0000:c1:00.0", "device", "0000:c1:00.0"),
        ("HIPCOMM_CPU_DEVICES", "3", "cpu_devices", 3),
        ("HIPCOMM_TIMEOUT", "0.25", "timeout", 0.25),
        ("HIPCOMM_TIMEOUT", "1e6", "timeout", 1e6),
        ("HIPCOMM_JOIN_TIMEOUT", "7", "join_timeout", 7.0),
        ("HIPCOMM_ALGORITHM", "two_shot", "algorithm", "two_shot"),
        ("HIPCOMM_ALGORITHM", "staged", "algorithm", "staged"),
        ("HIPCOMM_STAGING_BYTES", "4096", "staging_bytes", 4096),
        ("HIPCOMM_STAGING_BYTES", "512K", "staging_bytes", 512 << 10),
        ("HIPCOMM_STAGING_BYTES", "32m", "staging_bytes", 32 << 20),
        ("HIPCOMM_STAGING_BYTES", "2GiB", "staging_bytes", 2 << 30),
        ("HIPCOMM_STAGING_BYTES", "64MB", "staging_bytes", 64 << 20),
        ("HIPCOMM_STAGING_BYTES", "64G", "staging_bytes", 64 << 30),
        ("HIPCOMM_SHARE_DEVICES", "1", "share_devices", True),
        ("HIPCOMM_CHECK", "1", "check", True),
        ("HIPCOMM_LOG", "debug", "log", "debug"),
        ("XDG_RUNTIME_DIR", "/run/user/7", "runtime_dir", "/run/user/7"),
    ],
)
def test_settings(name, text, field, value):
    assert Settings.read({name: text}) == Settings()._replace(**{field: value})


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:4000", ("127.0.0.1", 4000)),
        ("[::1]:1", ("::1", 1)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_rendezvous_endpoint(text, endpoint):
    settings = Settings.read({"HIPCOMM_RENDEZVOUS": text, "HIPCOMM_TOKEN": "t"})
    assert settings.rendezvous == endpoint
    assert settings.token == "t"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HIPCOMM_PLATFORM", "gpu"),
        ("HIPCOMM_CPU_DEVICES", "0"),
        ("HIPCOMM_CPU_DEVICES", "255"),
        ("HIPCOMM_CPU_DEVICES", "-1"),
        ("HIPCOMM_CPU_DEVICES", "1_0"),
        ("HIPCOMM_CPU_DEVICES", "²"),
        ("HIPCOMM_TIMEOUT", "0"),
        ("HIPCOMM_TIMEOUT", "inf"),
        ("HIPCOMM_TIMEOUT", "nan"),
        ("HIPCOMM_TIMEOUT", "soon"),
        ("HIPCOMM_TIMEOUT", "1000001"),
        ("HIPCOMM_TIMEOUT", "1e300"),
        ("HIPCOMM_JOIN_TIMEOUT", "-3"),
        ("HIPCOMM_JOIN_TIMEOUT", "3e6"),
        ("HIPCOMM_ALGORITHM", "fast"),
        ("HIPCOMM_STAGING_BYTES", "M"),
        ("HIPCOMM_STAGING_BYTES", "0"),
        ("HIPCOMM_STAGING_BYTES", "1.5M"),
        ("HIPCOMM_STAGING_BYTES", "32T"),
        ("HIPCOMM_STAGING_BYTES", "65G"),
        ("HIPCOMM_STAGING_BYTES", "18446744073709551615"),
        ("HIPCOMM_STAGING_BYTES", "9" * 5000),
        ("HIPCOMM_CHECK", "yes"),
        ("HIPCOMM_LOG", "loud"),
        ("HIPCOMM_RENDEZVOUS", "localhost"),
        ("HIPCOMM_RENDEZVOUS", ":4000"),
        ("HIPCOMM_RENDEZVOUS", "host:65536"),
    ],
)
def test_nonsense_is_refused_with_name_and_value(name, text):
    with pytest.raises(InvalidArgument) as caught:
        Settings.read({name: text})
    assert name in str(caught.value)
    assert repr(text) in str(caught.value)


def test_the_token_is_never_shown():
    with pytest.raises(InvalidArgument) as caught:
        Settings.read({"HIPCOMM_TOKEN": "secret" * 30})
    assert "HIPCOMM_TOKEN" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_token_is_text():
    with pytest.raises(InvalidArgument, match="HIPCOMM_TOKEN") as caught:
        Settings.read({"HIPCOMM_TOKEN": os.fsdecode(b"secret\xff")})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["HIPCOMM_WORLD_SIZE", "WORLD_SIZE", "PMI_SIZE"])
def test_no_more_ranks_than_a_communicator_has(name):
    rank = name.replace("WORLD_SIZE", "RANK").replace("SIZE", "RANK")
    assert Identity.read({rank: "0", name: "16"}).world_size == 16
    with pytest.raises(InvalidArgument, match=f"{name}='17'"):
        Identity.read({rank: "0", name: "17"})


def test_rendezvous_needs_a_token():
    with pytest.raises(InvalidArgument, match="HIPCOMM_TOKEN"):
        Settings.read({"HIPCOMM_RENDEZVOUS": "localhost:1"})


HIPCOMM = {"HIPCOMM_RANK": "1", "HIPCOMM_WORLD_SIZE": "5", "HIPCOMM_LOCAL_RANK": "1"}
TORCHRUN = {
    "RANK": "2",
    "LOCAL_RANK": "2",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "r",
    "TORCHELASTIC_RESTART_COUNT": "0",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "6",
    "OMPI_COMM_WORLD_LOCAL_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "6",
    "PMIX_NAMESPACE": "2949840897",
}
PMI = {"PMI_RANK": "4", "PMI_SIZE": "7", "MPI_LOCALRANKID": "4"}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_LOCALID": "5",
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
}
PARENT = f"parent={os.getppid()}"


@pytest.mark.parametrize(
    ("environ", "identity"),
    [
        ({}, Identity(0, 1, 0, "alone", "")),
        (HIPCOMM, Identity(1, 5, 1, "hipcomm", PARENT)),
        (
            TORCHRUN,
            Identity(
                2,
                4,
                2,
                "torchrun",
                "MASTER_ADDR=localhost MASTER_PORT=29500 TORCHELASTIC_RUN_ID=r TORCHELASTIC_RESTART_COUNT=0",
            ),
        ),
        (OPEN_MPI, Identity(3, 6, 3, "Open MPI", "PMIX_NAMESPACE=2949840897")),
        (PMI, Identity(4, 7, 4, "PMI", PARENT)),
        (SLURM, Identity(5, 8, 5, "Slurm", "SLURM_JOB_ID=77 SLURM_STEP_ID=0")),
    ],
)
def test_identity_by_launcher(environ, identity):
    assert Identity.read(environ) == identity


def test_order_of_launchers():
    everything = {**HIPCOMM, **TORCHRUN, **OPEN_MPI, **PMI, **SLURM}
    for launcher, source in [
        (HIPCOMM, "hipcomm"),
        (TORCHRUN, "torchrun"),
        (OPEN_MPI, "Open MPI"),
        (PMI, "PMI"),
        (SLURM, "Slurm"),
    ]:
        assert Identity.read(everything).source == source
        for name in launcher:
            del everything[name]
    assert Identity.read(everything).source == "alone"


def test_local_rank_defaults_to_the_rank():
    assert Identity.read({"HIPCOMM_RANK": "2", "HIPCOMM_WORLD_SIZE": "3"}).local_rank == 2


def test_a_job_id_names_the_job():
    assert Identity.read({**TORCHRUN, "HIPCOMM_JOB_ID": "mine"}).job_key == "job=mine"


def test_a_slurm_batch_script_is_no_task():
    batch = {name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"}
    assert Identity.read(batch) == Identity()


@pytest.mark.parametrize("step", ["4294967290", "4294967291", "4294967292"])
def test_slurms_own_steps_are_no_tasks(step):
    """Of the shell of an interactive allocation, which has the job's task count, above all."""
    assert Identity.read({**SLURM, "SLURM_STEP_ID": step}) == Identity()


def test_the_tasks_of_a_slurm_step_count_not_those_of_its_job():
    step = {**SLURM, "SLURM_STEP_NUM_TASKS": "6"}
    assert Identity.read(step) == Identity.read(SLURM)._replace(world_size=6)


@pytest.mark.parametrize(
    ("environ", "spans"),
    [
        (TORCHRUN, False),
        ({**TORCHRUN, "WORLD_SIZE": "8"}, True),
        ({**HIPCOMM, "HIPCOMM_LOCAL_SIZE": "1"}, True),
        (HIPCOMM, False),
        ({**SLURM, "SLURM_NNODES": "1"}, False),
        ({**SLURM, "SLURM_NNODES": "2"}, True),
        ({**SLURM, "SLURM_NNODES": "2", "SLURM_STEP_NUM_NODES": "1"}, False),
        ({**TORCHRUN, "SLURM_NNODES": "2"}, False),
    ],
)
def test_the_launcher_says_whether_there_may_be_several_nodes(environ, spans):
    assert Identity.read(environ).spans_nodes is spans


def test_a_world_of_keywords_is_of_one_machine():
    assert not Identity.read({**TORCHRUN, "WORLD_SIZE": "8"}, {"rank": 0, "world_size": 2}).spans_nodes


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"HIPCOMM_RANK": "1"}, ["HIPCOMM_WORLD_SIZE"]),
        ({"HIPCOMM_WORLD_SIZE": "2"}, ["HIPCOMM_RANK"]),
        ({"RANK": "0"}, ["WORLD_SIZE"]),
        ({"RANK": "one", "WORLD_SIZE": "2"}, ["RANK", "'one'"]),
        ({"HIPCOMM_RANK": "2", "HIPCOMM_WORLD_SIZE": "2"}, ["HIPCOMM_RANK='2'", "HIPCOMM_WORLD_SIZE='2'"]),
        ({**TORCHRUN, "WORLD_SIZE": "1025"}, ["WORLD_SIZE='1025'", "1024 ranks at most"]),
        ({**TORCHRUN, "WORLD_SIZE": "17", "LOCAL_WORLD_SIZE": "17"}, ["WORLD_SIZE='17'", "16 ranks at most"]),
        ({**HIPCOMM, "HIPCOMM_LOCAL_RANK": "-1"}, ["HIPCOMM_LOCAL_RANK", "'-1'"]),
    ],
)
def test_identities_that_cannot_be(environ, named):
    with pytest.raises(InvalidArgument) as caught:
        Identity.read(environ)
    for text in named:
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"platform": "cpu"}, "platform", "cpu"),
        ({"device": 3}, "device", "3"),
        ({"device": "0000:c1:00.0"}, "device", "0000:c1:00.0"),
        ({"timeout": 2}, "timeout", 2.0),
        ({"timeout": 0.25}, "timeout", 0.25),
        ({"join_timeout": 1e6}, "join_timeout", 1e6),
        ({"algorithm": "staged"}, "algorithm", "staged"),
        ({"staging_bytes": 4096}, "staging_bytes", 4096),
        ({"staging_bytes": np.int64(4096)}, "staging_bytes", 4096),
        ({"staging_bytes": "32M"}, "staging_bytes", 32 << 20),
        ({"share_devices": True}, "share_devices", True),
        ({"check": False}, "check", False),
        ({"log": "debug"}, "log", "debug"),
        ({"rendezvous": ("::1", 4000), "token": "t"}, "rendezvous", ("::1", 4000)),
        ({"rendezvous": "localhost:4000", "token": "t"}, "rendezvous", ("localhost", 4000)),
    ],
)
def test_a_keyword_counts_more_than_its_variable(given, field, value):
    environ = {"HIPCOMM_CHECK": "1", "HIPCOMM_ALGORITHM": "two_shot", "HIPCOMM_TIMEOUT": "7"}
    settings = Settings.read(environ, given)
    rest = {"token": "t"} if "token" in given else {}
    expected = Settings.read(environ)._replace(**{field: value}, **rest, keywords=frozenset(given))
    assert settings == expected
    assert Settings.read(environ, dict.fromkeys(given)) == Settings.read(environ)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank", True),
        ("rank", "0"),
        ("rank", 0.0),
        ("world_size", 0),
        ("local_rank", -1),
        ("rendezvous", "localhost"),
        ("rendezvous", ("localhost", 4000, 0)),
        ("rendezvous", ("localhost", 65536)),
        ("job_id", 3),
        ("platform", "gpu"),
        ("platform", 0),
        ("device", 0.5),
        ("device", False),
        ("timeout", 0),
        ("timeout", float("nan")),
        ("timeout", "5"),
        ("timeout", True),
        ("join_timeout", 1_000_001),
        ("algorithm", "copy"),
        ("staging_bytes", 0),
        ("staging_bytes", 65 << 30),
        ("staging_bytes", 1.5),
        ("share_devices", 1),
        ("check", "yes"),
        ("log", "loud"),
    ],
)
def test_a_wrong_keyword_is_refused_with_name_and_value(name, value):
    given = {"rank": 0, "world_size": 1, name: value}
    with pytest.raises(InvalidArgument) as caught:
        hipcomm.init(**given)
    assert f"{name}={value!r}: " in str(caught.value)


def test_a_token_given_as_keyword_is_never_shown():
    for token in ("secret" * 30, os.fsdecode(b"secret\xff"), b"secret"):
        with pytest.raises(InvalidArgument, match=r"^token=\(hidden\): ") as caught:
            Settings.read({}, {"token": token})
        assert "secret" not in str(caught.value)


def test_a_keyword_that_is_no_setting():
    with pytest.raises(InvalidArgument, match=r"^init: time_out is no setting; it takes rank, world_size, "):
        hipcomm.init(time_out=3)
    with pytest.raises(InvalidArgument, match=r"^init_all: rank is decided by it; it takes platform, "):
        hipcomm.init_all([0], rank=3)
    with pytest.raises(InvalidArgument, match=r"^init: cpu_devices is no setting"):  # the C++ side reads it
        hipcomm.init(cpu_devices=3)


@pytest.mark.parametrize(
    ("environ", "given", "identity"),
    [
        ({}, {"rank": 1, "world_size": 3}, Identity(1, 3, 1, "keywords", PARENT)),
        ({}, {"rank": 1, "world_size": 3, "local_rank": 0}, Identity(1, 3, 0, "keywords", PARENT)),
        ({}, {"rank": 1, "world_size": 3, "job_id": "mine"}, Identity(1, 3, 1, "keywords", "job=mine")),
        ({}, {"local_rank": 2}, Identity(0, 1, 2, "alone", "")),
        (HIPCOMM, {"local_rank": 3}, Identity(1, 5, 3, "hipcomm", PARENT)),
        (HIPCOMM, {"rank": 0, "world_size": 1}, Identity(0, 1, 1, "hipcomm", PARENT)),
        ({"HIPCOMM_JOB_ID": "theirs"}, {"rank": 0, "world_size": 2, "job_id": "mine"}, "job=mine"),
        (TORCHRUN, {"world_size": 3}, 3),
    ],
)
def test_identity_of_keywords(environ, given, identity):
    found = Identity.read(environ, given)
    assert identity in (found, found.job_key, found.world_size)


@pytest.mark.parametrize(
    ("environ", "given", "message"),
    [
        ({}, {"rank": 1}, "world_size=None: not set, but rank=1 is"),
        ({}, {"world_size": 2}, "rank=None: not set, but world_size=2 is"),
        ({}, {"rank": 2, "world_size": 2}, "rank=2: not below world_size=2"),
        (HIPCOMM, {"rank": 5}, "rank=5: not below HIPCOMM_WORLD_SIZE='5'"),
        ({}, {"rank": 0, "world_size": 17}, "world_size=17: hipcomm joins 16 ranks at most"),
    ],
)
def test_keywords_that_do_not_fit(environ, given, message):
    with pytest.raises(InvalidArgument) as caught:
        Identity.read(environ, given)
    assert str(caught.value) == message


def test_rendezvous_as_keyword_needs_a_token():
    with pytest.raises(InvalidArgument, match=r"^HIPCOMM_TOKEN='': rendezvous is set"):
        Settings.read({}, {"rendezvous": "localhost:1"})


def test_settings_are_read_without_the_core():
    """The doctor of an installation whose library is missing reads them too."""
    hidden = "import sys; sys.modules['hipcomm.core'] = None"
    code = f"{hidden}; from hipcomm import environment; print(environment.ALGORITHMS)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "one_shot" in done.stdout
