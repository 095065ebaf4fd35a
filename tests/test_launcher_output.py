"""The launcher's parts: streams and terminals, devices, commands."""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

import pytest

from hipcomm_launcher.guardian import find_processes
from hipcomm_launcher.output import MAX_BACKLOG, MAX_LINE, PIPE_BUF, Stream, Terminal
from hipcomm_launcher.spec import CommandError, parse_devices, resolve_command


class Pipe:
    """A pipe: ``reader`` as a file, ``writer`` as a descriptor."""

    def __init__(self):
        descriptor, self.writer = os.pipe()
        self.reader = os.fdopen(descriptor, "rb", buffering=0)

    def write(self, data):
        os.write(self.writer, data)


@pytest.fixture
def pipe():
    pipe = Pipe()
    yield pipe
    pipe.reader.close()
    os.close(pipe.writer)


def queued(terminal):
    return b"".join(terminal._chunks)


def test_only_whole_lines_reach_the_terminal(pipe):
    terminal = Terminal(1)
    stream = Stream(pipe.reader, b"[rank3] ", terminal, None, whole_lines=True)
    pipe.write(b"one\ntw")
    assert stream.read_some()
    assert queued(terminal) == b"[rank3] one\n"
    pipe.write(b"o\n\n")
    assert stream.read_some()
    assert queued(terminal) == b"[rank3] one\n[rank3] two\n[rank3] \n"
    pipe.write(b"rest")
    assert stream.read_some()
    assert stream.read_some()  # nothing there is not the end
    stream.close()
    assert queued(terminal).endswith(b"[rank3] \n[rank3] rest\n")
    assert list(stream.tail) == [b"one", b"two", b"", b"rest"]


def test_bytes_as_they_come(pipe):
    terminal = Terminal(1)
    stream = Stream(pipe.reader, b"", terminal, None, whole_lines=False)
    pipe.write(b"prompt> ")
    assert stream.read_some()
    assert queued(terminal) == b"prompt> "


def test_endless_line_is_broken(pipe):
    terminal = Terminal(1)
    stream = Stream(pipe.reader, b"", terminal, None, whole_lines=True)
    sent = 0
    while not queued(terminal):
        pipe.write(b"x" * 65536)
        sent += 65536
        assert stream.read_some()
        assert sent <= 2 * MAX_LINE
    assert queued(terminal) == b"x" * sent + b"\n"
    assert sent > MAX_LINE
    assert terminal.backlog == sent + 1
    assert terminal.is_behind == (terminal.backlog > MAX_BACKLOG)
    assert len(stream.tail[0]) == 1000


def test_terminal_never_writes_more_than_a_writable_pipe_takes(pipe):
    terminal = Terminal(pipe.writer)
    expected = b""
    for number in range(2000):
        line = b"%d " % number * (number % 50 + 1) + b"\n"
        terminal.put(line)
        expected += line
    terminal.put(b"y" * 10000)
    expected += b"y" * 10000
    assert terminal.backlog == len(expected)
    received = b""
    while terminal.backlog:
        _, writable, _ = select.select([], [pipe.writer], [], 0)
        if writable:
            before = terminal.backlog
            terminal.write_some()  # would hang if it wrote too much: nobody reads meanwhile
            assert 0 < before - terminal.backlog <= PIPE_BUF
        else:
            received += os.read(pipe.reader.fileno(), 1 << 20)
    received += os.read(pipe.reader.fileno(), 1 << 20)
    assert received == expected


def test_terminal_without_a_reader_swallows_everything():
    reader, writer = os.pipe()
    os.close(reader)
    terminal = Terminal(writer)
    terminal.put(b"text\n")
    terminal.write_some()
    terminal.put(b"more\n")
    assert terminal.backlog == 0
    os.close(writer)


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("0", ["0"]),
        ("2,0", ["2", "0"]),
        ("0-3", ["0", "1", "2", "3"]),
        ("7,4-5", ["7", "4", "5"]),
        ("0000:c1:00.0,GPU-4a12-9f", ["0000:c1:00.0", "GPU-4a12-9f"]),
    ],
)
def test_devices(text, devices):
    assert parse_devices(text) == devices


@pytest.mark.parametrize("text", ["", ",", "0,", "3-1", "0 1, ", "0-99999999"])
def test_devices_that_cannot_be(text):
    with pytest.raises(ValueError):
        parse_devices(text)


def test_command_is_resolved_to_a_path(tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert resolve_command(["tool", "x"], False, str(tmp_path)) == [str(tool), "x"]
    assert resolve_command(["mod", "x"], True, "") == [sys.executable, "-m", "mod", "x"]
    with pytest.raises(CommandError) as caught:
        resolve_command(["tool"], False, "/nowhere")
    assert caught.value.exit_code == 127


def test_search_finds_by_mark_and_by_session():
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.write(write, b"1")
        os.execve("/bin/sleep", ["sleep", "60"], {"HIPCOMM_JOB_ID": "deadbeef00"})
    try:
        os.read(read, 1)
        while b"sleep" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            time.sleep(0.001)
        assert find_processes("deadbeef00", set()) == {pid: pid}
        assert find_processes("deadbeef0", set()) == {}  # the whole mark, not its beginning
        assert find_processes("other", {pid}) == {pid: pid}
        assert find_processes("other", set()) == {}
    finally:
        os.kill(pid, 9)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert find_processes("deadbeef00", {pid}) == {}  # a zombie is no live process
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)
