"""hipcomm-run from the outside: what ranks get, how a job ends, what the summary says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE = 60.0

JOIN = """
import os, signal, sys, time
from hipcomm.environment import Identity, Settings
from hipcomm.rendezvous import connect
client = connect(Identity.read(), Settings.read())
"""


def hipcomm_run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "hipcomm_launcher", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=options.pop("stdin", subprocess.DEVNULL),
        **options,
    )


def python(code):
    return [sys.executable, "-c", code]


SHOW_ENVIRONMENT = python("import json, os; print(json.dumps(dict(os.environ)))")


def test_ranks_get_their_identity():
    result = hipcomm_run("-n", 3, "--no-tag", *SHOW_ENVIRONMENT)
    assert result.returncode == 0
    assert result.stderr == ""
    ranks = sorted((json.loads(line) for line in result.stdout.splitlines()), key=lambda env: env["RANK"])
    assert len(ranks) == 3
    for rank, env in enumerate(ranks):
        for name in ("RANK", "LOCAL_RANK", "HIPCOMM_RANK", "HIPCOMM_LOCAL_RANK"):
            assert env[name] == str(rank)
        for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "HIPCOMM_WORLD_SIZE"):
            assert env[name] == "3"
        assert env["MASTER_ADDR"] == "127.0.0.1"
        assert env["HIPCOMM_RENDEZVOUS"] != f"127.0.0.1:{env['MASTER_PORT']}"
        assert env["PYTHONUNBUFFERED"] == "1"
    for name in ("MASTER_PORT", "HIPCOMM_RENDEZVOUS", "HIPCOMM_TOKEN", "HIPCOMM_JOB_ID"):
        assert len({env[name] for env in ranks}) == 1


def test_ours_win_over_an_outer_launchers():
    outer = {**os.environ, "RANK": "7", "WORLD_SIZE": "8", "HIPCOMM_RANK": "5", "HIPCOMM_RENDEZVOUS": "x"}
    result = hipcomm_run("--no-tag", *SHOW_ENVIRONMENT, env=outer)
    env = json.loads(result.stdout)
    assert (env["RANK"], env["HIPCOMM_RANK"], env["WORLD_SIZE"]) == ("0", "0", "1")


def test_platform_devices_and_env():
    code = (
        "import os; print(*(os.environ.get(n) for n in ('RANK', 'HIPCOMM_PLATFORM', 'HIPCOMM_DEVICE', 'A')))"
    )
    options = ["--platform", "cpu", "--devices", "5-6,0000:c1:00.0", "--env", "A=b=c", "--no-tag"]
    options += ["--env", "HIPCOMM_PLATFORM=nvidia", "--env", "HIPCOMM_DEVICE=9"]  # the options say more
    result = hipcomm_run(*options, *python(code))
    assert sorted(result.stdout.splitlines()) == ["0 cpu 5 b=c", "1 cpu 6 b=c", "2 cpu 0000:c1:00.0 b=c"]


def test_ranks_join_the_launchers_server():
    code = JOIN + "print(client.all_gather('x', b'%d' % client.rank, 30)); client.close()"
    result = hipcomm_run("-n", 4, *python(code))
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == [f"[rank{r}] [b'0', b'1', b'2', b'3']" for r in range(4)]


def test_script_and_module_run_with_this_interpreter(tmp_path):
    script = tmp_path / "prog.py"
    script.write_text("import sys; print(sys.executable, sys.argv[1:])")
    expected = f"{sys.executable} ['--flag', '-n', '9']\n"
    arguments = ["--flag", "-n", "9"]  # the program's, not ours
    assert hipcomm_run("--no-tag", script, *arguments).stdout == expected
    assert hipcomm_run("--no-tag", "-m", "prog", *arguments, cwd=tmp_path).stdout == expected


def test_python_is_found_where_path_has_none(tmp_path):
    result = hipcomm_run(
        "--no-tag", "python", "-c", "print('here')", env={**os.environ, "PATH": str(tmp_path)}
    )
    assert result.stdout == "here\n"


@pytest.mark.parametrize(
    ("program", "code", "message"),
    [
        ("no-such-program", 127, "hipcomm-run: no-such-program: command not found\n"),
        ("./missing.py", 127, "hipcomm-run: ./missing.py: no such file\n"),
        ("./plain", 126, "hipcomm-run: ./plain: not executable\n"),
        ("./dir", 126, "hipcomm-run: ./dir: is a directory\n"),
        ("./lost-interpreter", 127, "cannot run ./lost-interpreter: No such file or directory\n"),
        ("./not-a-binary", 126, "cannot run ./not-a-binary: Exec format error\n"),
    ],
)
def test_programs_that_cannot_be_run(program, code, message, tmp_path):
    (tmp_path / "plain").write_text("text")
    (tmp_path / "dir").mkdir()
    for name, content in [("lost-interpreter", "#!/no/such/shell\n"), ("not-a-binary", "\0\0\0")]:
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    result = hipcomm_run("-n", 2, program, cwd=tmp_path)
    assert result.returncode == code
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["-n", "0"], "0"),
        (["-n", "3", "--devices", "0,1"], "2 devices for 3 ranks"),
        (["--devices", "3-1"], "3-1"),
        (["--devices", "0,,1"], "0,,1"),
        (["--env", "NOVALUE"], "NOVALUE"),
        (["--env", "RANK=3"], "RANK is set by hipcomm-run itself"),
        (["--tee"], "--log-dir"),
        (["--timeout", "0"], "0"),
        (["--timeout", "nan"], "nan"),
        (["--timeout", "inf"], "1000000"),
        (["--grace", "1e300"], "1000000"),
        (["--platform", "tpu"], "tpu"),
        (["--env", "HIPCOMM_TIMEOUT=soon"], "HIPCOMM_TIMEOUT='soon'"),
    ],
)
def test_wrong_options(options, named):
    result = hipcomm_run(*options, "true")
    assert result.returncode == 2
    assert named in result.stderr


def test_no_program():
    assert hipcomm_run("-n", 2).returncode == 2


def test_dry_run_prints_commands_a_shell_takes_and_no_secret():
    result = hipcomm_run("-n", 2, "--devices", "0,1", "--dry-run", *python("print('a b')"))
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    for rank, line in enumerate(lines):
        assert f" RANK={rank} " in line
        assert f" HIPCOMM_DEVICE={rank} " in line
        assert "HIPCOMM_TOKEN='<hidden>'" in line
        shell = subprocess.run(
            ["sh", "-c", line.replace("<free port>", "1")], capture_output=True, text=True, timeout=PATIENCE
        )
        assert shell.stdout == "a b\n"


def test_every_rank_leads_a_session_of_its_own():
    result = hipcomm_run(
        "-n", 3, "--no-tag", *python("import os; print(os.getpid(), os.getsid(0), os.getpgid(0))")
    )
    sessions = [line.split() for line in result.stdout.splitlines()]
    assert all(pid == session == group for pid, session, group in sessions)
    assert len({pid for pid, _, _ in sessions}) == 3


def test_rank_0_has_our_standard_input(tmp_path):
    (tmp_path / "input").write_text("words")
    code = "import os, sys; print(os.readlink('/proc/self/fd/0'), repr(sys.stdin.read()))"
    with (tmp_path / "input").open() as file:
        result = hipcomm_run("-n", 2, *python(code), stdin=file)
    expected = [f"[rank0] {tmp_path / 'input'} 'words'", "[rank1] /dev/null ''"]
    assert sorted(result.stdout.splitlines()) == expected


def test_exit_code_is_that_of_the_first_failure_and_the_others_are_stopped():
    code = """
import os, sys, time
if os.environ["RANK"] == "1":
    for number in range(50):
        print("line", number, file=sys.stderr)
    sys.exit(7)
time.sleep(60)
"""
    began = time.monotonic()
    result = hipcomm_run("-n", 3, *python(code))
    assert time.monotonic() - began < 30  # nobody slept for the minute
    assert result.returncode == 7
    summary = result.stderr[result.stderr.index("hipcomm-run: ") :].splitlines()
    assert summary[0].startswith("hipcomm-run: rank 1 exited with code 7 after ")
    assert summary[1] == "  its last lines on standard error:"
    assert summary[2:22] == [f"    line {number}" for number in range(30, 50)]
    assert summary[22:] == [
        "  the other ranks at that time:",
        "    rank 0: running, had not joined",
        "    rank 2: running, had not joined",
    ]
    assert result.stderr.count("hipcomm-run: ") == 1


def test_signal_is_named_and_what_the_others_waited_for():
    code = (
        JOIN
        + """
if client.rank == 2:
    client.all_gather("ready", b"", 30)
    os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
client.waiting("all_reduce number 7")
client.all_gather("ready", b"", 30)
try:
    client.all_gather("handles", b"", 30)
except Exception as error:
    print(type(error).__name__, error.peer, flush=True)
    time.sleep(0.2)
    sys.exit(1)
"""
    )
    result = hipcomm_run("-n", 3, *python(code))
    assert result.returncode == 137
    assert "hipcomm-run: rank 2 was killed by SIGKILL after " in result.stderr
    assert "(exit code 137)" in result.stderr
    for rank in (0, 1):
        assert f"    rank {rank}: waiting for all_reduce number 7" in result.stderr
        assert f"[rank{rank}] PeerDied 2\n" in result.stdout


def test_summary_says_in_which_collective_the_others_were():
    code = """
import os, time, hipcomm
comm = hipcomm.init()
comm.barrier()
comm.synchronize()
if comm.rank == 1:
    time.sleep(0.3)  # the others' first barrier is over by then
    os._exit(7)  # at once: they hear of it only then
try:
    comm.barrier()
    comm.synchronize()
except hipcomm.PeerDied:
    if comm.rank == 0:
        raise
    time.sleep(60)
"""
    result = hipcomm_run("-n", 3, "--unwind", 1, "--grace", 1, *python(code))
    assert result.returncode == 7
    summary = result.stderr[result.stderr.index("hipcomm-run: ") :].splitlines()
    first, second = summary[-2:]
    assert first.startswith("    rank 0: barrier (call 2, one_shot) was waiting for rank ")
    assert second.startswith("    rank 2: barrier (call 2, one_shot) was waiting for rank ")
    assert "waiting for rank 1, which makes no more calls" in second or "rank 1 died: " in second


def test_a_reason_to_abort_is_no_wait():
    code = """if True:
        import time
        import hipcomm
        try:
            comm = hipcomm.init()
            if comm.rank == 1:
                comm.abort("the model diverged")
            comm.barrier()
            comm.synchronize()
        except hipcomm.Error:
            time.sleep(60)
    """
    result = hipcomm_run("-n", 2, "--timeout", 5, *python(code))
    assert result.returncode == 124
    assert "    rank 1: the model diverged\n" in result.stderr
    assert "waiting for the model" not in result.stderr


def test_rank_that_tells_its_peers_first_is_blamed_though_it_ends_last():
    code = (
        JOIN
        + """
if client.rank == 1:
    client.abort("no luck")
    time.sleep(0.2)
    sys.exit(9)
try:
    client.all_gather("x", b"", 30)
except Exception:
    os._exit(1)
"""
    )
    result = hipcomm_run("-n", 3, *python(code))
    assert result.returncode == 9
    assert "hipcomm-run: rank 1 exited with code 9" in result.stderr


def test_rank_that_ends_well_and_early_is_no_failure():
    code = (
        JOIN
        + """
client.close()
if client.rank:
    time.sleep(0.3)
    print("done")
"""
    )
    result = hipcomm_run("-n", 3, *python(code))
    assert result.returncode == 0
    assert sorted(result.stdout.splitlines()) == ["[rank1] done", "[rank2] done"]
    assert result.stderr == ""


def test_rank_that_ends_well_without_joining_is_named_to_those_who_wait():
    code = "import os\nif os.environ['RANK'] == '1': raise SystemExit\n" + JOIN
    result = hipcomm_run("-n", 2, *python(code))
    assert result.returncode == 1
    assert "PeerDied: rank 0 of 2: join: rank 1 ended before it joined (its process exited with code 0)" in (
        result.stderr
    )


def test_time_out_ends_the_job_with_124():
    code = JOIN + "client.waiting('the end of time'); time.sleep(60)"
    result = hipcomm_run("-n", 2, "--timeout", "1.5", *python(code))
    assert result.returncode == 124
    assert "hipcomm-run: the job did not end within 1.5 s\n  the ranks at that time:\n" in result.stderr
    assert "    rank 1: waiting for the end of time\n" in result.stderr


def test_who_ignores_sigterm_is_killed_after_the_grace_time(tmp_path):
    code = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(os.environ["HERE"] + "/" + os.environ["RANK"], "w")
while len(os.listdir(os.environ["HERE"])) < 2:
    time.sleep(0.01)
if os.environ["RANK"] == "0":
    sys.exit(3)
time.sleep(60)
"""
    result = hipcomm_run("-n", 2, "--grace", "0.3", "--env", f"HERE={tmp_path}", *python(code))
    assert result.returncode == 3
    assert "  did not end within 0.3 s of SIGTERM, killed: rank 1\n" in result.stderr


def test_sigterm_gives_ranks_the_time_to_clean_up():
    code = """
import os, signal, sys, time
def clean_up(*_):
    print("cleaned up", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, clean_up)
if os.environ["RANK"] == "0":
    time.sleep(0.5)
    sys.exit(3)
time.sleep(60)
"""
    result = hipcomm_run("-n", 2, *python(code))
    assert result.returncode == 3
    assert result.stdout == "[rank1] cleaned up\n"


def test_lines_are_never_torn():
    code = """
import os, sys
rank = os.environ["RANK"]
for number in range(300):
    for stream in (1, 2):
        for piece in (rank * 3000, rank * 3000, "\\n"):
            os.write(stream, piece.encode())
"""
    command = [sys.executable, "-m", "hipcomm_launcher", "-n", "4", *python(code)]
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE
    )
    lines = result.stdout.splitlines()
    assert sorted(lines) == sorted(f"[rank{r}] " + str(r) * 6000 for r in range(4) for _ in range(600))


def test_last_line_without_an_end_gets_one():
    result = hipcomm_run("-n", 2, *python("import sys; sys.stdout.write('no end')"))
    assert sorted(result.stdout.splitlines()) == ["[rank0] no end", "[rank1] no end"]
    assert hipcomm_run("--no-tag", *python("import sys; sys.stdout.write('no end')")).stdout == "no end"


def test_slow_reader_loses_nothing_and_gone_reader_ends_the_job(tmp_path):
    code = "import os\nfor n in range(20000): print('x' * 200)\nopen(os.environ['DONE'], 'w')"
    done = tmp_path / "done"
    command = [sys.executable, "-m", "hipcomm_launcher", "--env", f"DONE={done}", *python(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        time.sleep(1.0)
        assert not done.exists()  # the rank waits, as it would without us
        output, _ = process.communicate(timeout=PATIENCE)
    assert output == (b"[rank0] " + b"x" * 200 + b"\n") * 20000
    done.unlink()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.wait(PATIENCE) == 141  # as SIGPIPE would
    assert not done.exists()


FILL_THE_PIPE = """
import os, time
os.set_blocking(1, False)
written, last = 0, time.monotonic()
while time.monotonic() < last + 0.5:
    try:
        written += os.write(1, b"x" * 99 + b"\\n")
        last = time.monotonic()
    except BlockingIOError:
        time.sleep(0.01)
with open(os.environ["HERE"] + "/" + str(os.getpid()), "w") as file:
    file.write(str(written))
"""


def test_reader_that_pauses_at_the_end_loses_nothing(tmp_path):
    command = [sys.executable, "-m", "hipcomm_launcher", "-n", "2", "--no-tag", "--env", f"HERE={tmp_path}"]
    with subprocess.Popen([*command, *python(FILL_THE_PIPE)], stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + PATIENCE
        while sum(file.stat().st_size > 0 for file in tmp_path.iterdir()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(1.0)  # the ranks have ended, and what they wrote last is still in their pipes
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert len(output) == sum(int(file.read_text()) for file in tmp_path.iterdir())


def test_stranger_at_a_ranks_pipe_does_not_hold_up_the_end():
    code = "import os; print(os.getpid(), flush=True); input()"
    command = [sys.executable, "-m", "hipcomm_launcher", "--no-tag", *python(code)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        rank = int(process.stdout.readline())
        with Path(f"/proc/{rank}/fd/1").open("wb") as pipe:
            pipe.write(b"last words\n")
            pipe.flush()
            output, _ = process.communicate("\n", timeout=PATIENCE)
    assert process.returncode == 0
    assert output == "last words\n"


@pytest.mark.parametrize(
    ("closed", "shown"),
    [("<&-", ["out", "err"]), (">&-", ["err"]), ("2>&-", ["out"]), ("<&- >&- 2>&-", [])],
)
def test_closed_standard_descriptors_are_empty_files(closed, shown):
    code = "import os, sys; os.fstat(0); print('out'); print('err', file=sys.stderr)"
    command = [sys.executable, "-m", "hipcomm_launcher", "--no-tag", *python(code)]
    result = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command], capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.returncode == 0
    assert (result.stdout + result.stderr).split() == shown


def test_log_directory_and_tee(tmp_path):
    code = "import os, sys; r = os.environ['RANK']; print('out', r); print('err', r, file=sys.stderr)"
    for tee in ([], ["--tee"]):
        logs = tmp_path / f"logs{len(tee)}" / "deep"
        result = hipcomm_run("-n", 2, "--log-dir", logs, *tee, *python(code))
        assert result.returncode == 0
        assert {path.name: path.read_text() for path in logs.iterdir()} == {
            f"rank{rank}.{name}": f"{name} {rank}\n" for rank in range(2) for name in ("out", "err")
        }
        shown = sorted(result.stdout.splitlines() + result.stderr.splitlines())
        expected = ["[rank0] err 0", "[rank0] out 0", "[rank1] err 1", "[rank1] out 1"]
        assert shown == (expected if tee else [])


def test_summary_has_the_tail_also_when_the_output_goes_to_files(tmp_path):
    result = hipcomm_run("--log-dir", tmp_path, *python("raise SystemExit('the reason')"))
    assert result.returncode == 1
    assert "    the reason\n" in result.stderr


def test_log_directory_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    result = hipcomm_run("--log-dir", tmp_path / "file" / "x", "true")
    assert result.returncode == 1
    assert result.stderr.startswith("hipcomm-run: ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("program", "code"), [("exit 0", 1), ("exit 3", 3)])
def test_output_that_cannot_be_written_is_reported_once(program, code):
    command = [sys.executable, "-m", "hipcomm_launcher", "-n", "2", "sh", "-c", f"echo out; {program}"]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
        both = subprocess.run(command, stdout=full, stderr=full, timeout=PATIENCE)
    assert result.returncode == both.returncode == code
    message = "hipcomm-run: cannot write standard output: No space left on device\n"
    assert result.stderr.endswith(message)
    assert result.stderr.count(message) == 1


def test_full_disk_ends_the_log_not_the_job(tmp_path):
    (tmp_path / "rank0.out").symlink_to("/dev/full")
    result = hipcomm_run("--log-dir", tmp_path, "--tee", *python("print('shown')"))
    assert result.returncode == 0
    assert result.stdout == "[rank0] shown\n"
    assert "rank0.out is incomplete: No space left on device" in result.stderr


SURVIVE = """
import os, signal, sys, time, hipcomm
comm = hipcomm.init()
comm.barrier()
if comm.rank == 1:
    {end}
signal.signal(signal.SIGTERM, lambda *_: os._exit(5))
try:
    comm.barrier()
    comm.synchronize()
except hipcomm.PeerDied as error:
    time.sleep(0.4)  # a checkpoint
    print("saved", error.peer, flush=True)
    raise
"""


@pytest.mark.parametrize(
    ("end", "code"), [("os.kill(os.getpid(), signal.SIGKILL)", 137), ("os._exit(3)", 3), ("sys.exit(4)", 4)]
)
def test_survivors_raise_and_end_by_themselves(end, code):
    """They were sent SIGTERM on their way out of the call."""
    began = time.monotonic()
    result = hipcomm_run("-n", 3, "--unwind", 20, "--platform", "cpu", *python(SURVIVE.format(end=end)))
    assert result.returncode == code
    assert result.stdout.count("saved 1\n") == 2, result.stderr
    assert result.stderr.count("hipcomm.errors.PeerDied: rank ") == 2
    assert time.monotonic() - began < 20  # nobody is waited for who has ended


BAR = """
import sys, time
for i in range(30):
    sys.stdout.write(f"\\r{i}/30")
    sys.stdout.flush()
    time.sleep(0.1)
"""
PROMPT = "import sys, time; sys.stdout.write('how many? '); sys.stdout.flush(); time.sleep(60)"


@pytest.mark.parametrize("options", [["-n", "1"], ["-n", "2"], ["-n", "1", "--no-tag"]])
@pytest.mark.parametrize(("code", "word"), [(BAR, b"/30"), (PROMPT, b"how many? ")])
def test_an_unfinished_line_is_shown(code, word, options):
    command = [sys.executable, "-m", "hipcomm_launcher", *options, *python(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        shown = b""
        while word not in shown:
            some = os.read(process.stdout.fileno(), 4096)
            assert some, shown
            shown += some
        process.terminate()
        process.stdout.close()
        process.wait(PATIENCE)


def test_a_job_within_a_job_has_devices_of_its_own():
    code = "import os; print(os.environ.get('HIPCOMM_DEVICE'))"
    outer = {**os.environ, "HIPCOMM_RANK": "1", "HIPCOMM_DEVICE": "5"}
    assert hipcomm_run("--no-tag", *python(code), env=outer).stdout == "None\n"
    assert hipcomm_run("--no-tag", "--devices", "2", *python(code), env=outer).stdout == "2\n"
    del outer["HIPCOMM_RANK"]
    assert hipcomm_run("--no-tag", *python(code), env=outer).stdout == "5\n"
