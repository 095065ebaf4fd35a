"""The environment table: parsing, identities, and that the documentation shows the same table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"HIPCOMM_RANK": "1"}, ["HIPCOMM_WORLD_SIZE"]),
        ({"HIPCOMM_WORLD_SIZE": "2"}, ["HIPCOMM_RANK"]),
        ({"RANK": "0"}, ["WORLD_SIZE"]),
        ({"RANK": "one", "WORLD_SIZE": "2"}, ["RANK", "'one'"]),
        ({"HIPCOMM_RANK": "2", "HIPCOMM_WORLD_SIZE": "2"}, ["HIPCOMM_RANK='2'", "HIPCOMM_WORLD_SIZE='2'"]),
        ({**TORCHRUN, "WORLD_SIZE": "16"}, ["WORLD_SIZE='16'", "LOCAL_WORLD_SIZE='4'"]),
        ({**HIPCOMM, "HIPCOMM_LOCAL_RANK": "-1"}, ["HIPCOMM_LOCAL_RANK", "'-1'"]),
    ],
)
def test_identities_that_cannot_be(environ, named):
    with pytest.raises(InvalidArgument) as caught:
        Identity.read(environ)
    for text in named:
        assert text in str(caught.value)
