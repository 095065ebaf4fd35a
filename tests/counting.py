"""A communicator whose calls into HIP are seen by a library in between."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

from hipcomm.hip import call, hip

TESTS = Path(__file__).parent
LAUNCH, ASK, RECORD = "hipModuleLaunchKernel", "hipStreamIsCapturing", "hipEventRecord"
WAIT, STOP = "hipStreamWaitEvent", "hipDeviceSynchronize"


class Counted:
    """A communicator of all ranks whose core calls HIP through counting_hip.c.

    side_by_side: the core is told that the device runs kernels of several streams at the same time.
    """

    def __init__(self, comm, directory, side_by_side=False):
        real = Path(comm._session.platform.library)
        shim = Path(directory) / f"counting{comm.rank}.so"
        command = ["gcc", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(shim)]
        command += [str(TESTS / "counting_hip.c"), f"-I{TESTS.parent / 'hipcomm' / 'platforms'}"]
        command += ["-Wl,--no-as-needed", str(real), f"-Wl,-rpath,{real.parent}", "-ldl"]
        subprocess.run(command, check=True, timeout=60)
        library = ctypes.CDLL(str(shim))
        if side_by_side:
            library.pretend_side_by_side()
        session = comm._session
        session.platform = session.platform._replace(library=str(shim))
        try:
            self.comm = comm.split(0)
        finally:
            session.platform = session.platform._replace(library=str(real))
        self._fail_next = library.fail_next
        self.device_of_last_launch = library.device_of_last_launch
        self._take = library.take_calls
        self._take.restype = ctypes.c_char_p
        self._take()

    def fail_next(self, function):
        """The next call of a HIP function fails."""
        self._fail_next(function.encode())

    def calls_of(self, body):
        """Run *body*, which uses the communicator; return the HIP calls that its core made."""
        self._take()
        body()
        return self._take().decode().split()

    def barrier(self, stream=None):
        """Call; return the HIP calls that it made."""
        return self.calls_of(lambda: self.comm.barrier(stream=stream))

    def synchronize(self, stream):
        """Wait for the stream, which is one HIP call, over and over."""
        waited = self.calls_of(lambda: self.comm.synchronize(stream=stream))
        assert set(waited) == {"hipStreamQuery"}, waited

    def captured(self, stream, body=None):
        """Likewise, of a barrier or of *body*, while the stream is captured; the graph is thrown away."""
        mode = hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal
        call("hipStreamBeginCapture", stream, mode)
        calls = self.calls_of(body) if body else self.barrier(stream)
        call("hipGraphDestroy", call("hipStreamEndCapture", stream))
        return calls
