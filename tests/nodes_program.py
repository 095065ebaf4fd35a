"""What the tests of worlds over nodes run as every rank: ``nodes_program.py DIRECTORY TASK [ARGUMENT]...``.

What a rank has to say it writes to DIRECTORY/<rank>, for mpirun may tear what ranks print, or drop it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import nodes_oracle
import numpy as np
import oracle
import regions

import hipcomm

POISON = 0xA5
GUARD = 64  # bytes
MOVING = ("all_gather", "broadcast", "all_to_all", "gather", "scatter")
REDUCING = ("all_reduce", "reduce_scatter", "reduce")
ROWS = 3


def guarded(count, dtype):
    """A poisoned array between guards, and what checks the guards."""
    whole = np.full(count * dtype.itemsize + 2 * GUARD, POISON, np.uint8)
    array = whole[GUARD : whole.size - GUARD].view(dtype)

    def check():
        assert (whole[:GUARD] == POISON).all() and (whole[whole.size - GUARD :] == POISON).all(), "a guard"

    return array, check


def expect(got, expected, what):
    problem = oracle.difference(got, expected)
    assert not problem, f"{what}: {problem}"


def members_of(comm):
    """The ranks of each node, from what ranks say of themselves."""
    own = np.array([comm.node, comm.local_rank], "int64")
    everybody = np.zeros((comm.world_size, 2), "int64")
    comm.all_gather(own, everybody)
    nodes = [[] for _ in range(comm.num_nodes)]
    for rank, (node, local) in enumerate(everybody.tolist()):
        assert len(nodes[node]) == local
        nodes[node].append(rank)
    return nodes


def one_call(comm, nodes, seed, operation, dtype, op, kind, count, root, rows):
    """One call with inputs that differ between ranks and calls, and its result against the oracle."""
    world, rank = comm.world_size, comm.rank
    sends = count * (world if operation in ("reduce_scatter", "all_to_all", "scatter") else 1)
    sent = [oracle.make_input(seed, each, sends, dtype, kind) for each in range(world)]
    expected = nodes_oracle.results(operation, sent, op, root, rows, nodes)[rank]
    what = f"{operation} {dtype.name} {op} {kind} count {count} root {root} rows {rows} seed {seed}"
    send = sent[rank].copy()
    receives = expected.size if expected is not None else 0
    recv, check = guarded(receives, dtype)
    if operation == "broadcast":
        recv, check = guarded(count, dtype)
        if rank == root:
            recv[...] = send
        comm.broadcast(recv, root)
    elif operation == "all_reduce" and seed[-1] % 2:
        recv[...] = send
        comm.all_reduce(recv, op=op)
    elif operation == "all_reduce":
        comm.all_reduce(send, recv, op)
    elif operation == "reduce":
        comm.reduce(send, recv if rank == root else None, op, root)
    elif operation == "reduce_scatter" and rows > 1:
        comm.reduce_scatter(send.reshape(rows, -1), recv.reshape(rows, -1), op, dim=1)
    elif operation == "reduce_scatter":
        comm.reduce_scatter(send, recv, op)
    elif operation == "all_gather" and rows > 1:
        comm.all_gather(send.reshape(rows, -1), recv.reshape(rows, -1), dim=1)
    elif operation == "gather":
        comm.gather(send, recv if rank == root else None, root)
    elif operation == "scatter":
        comm.scatter(send if rank == root else None, recv, root)
    else:
        getattr(comm, operation)(send, recv)
    check()
    if operation not in ("broadcast", "all_reduce") or not seed[-1] % 2:
        expect(send, sent[rank], f"the input of {what}")
    if expected is not None:
        expect(recv, expected, what)


def mixed(comm, calls, seed):
    """Calls of every kind, dtype and reduction, in a random order, ranks skewed."""
    nodes = members_of(comm)
    rng = np.random.default_rng(int(seed))  # the same on all ranks
    skew = np.random.default_rng([int(seed), comm.rank])
    dtypes = [oracle.dtype_of(name) for name in oracle.ALL_DTYPES]
    cases = [(operation, dtype, op) for operation in REDUCING for dtype in dtypes for op in oracle.OPERATIONS]
    cases += [(operation, dtype, "sum") for operation in MOVING for dtype in dtypes[:4]]
    rng.shuffle(cases)
    counts = (1, 2, 5, 63, 64, 257, 1000, 40000)
    for number, (operation, dtype, op) in enumerate(cases[: int(calls)]):
        if skew.random() < 0.1:
            time.sleep(skew.random() * 0.01)
        count = int(rng.choice(counts, p=[0.2, 0.15, 0.15, 0.15, 0.1, 0.1, 0.1, 0.05]))
        rows = ROWS if operation in ("reduce_scatter", "all_gather") and rng.random() < 0.3 else 1
        kind, root = str(rng.choice(oracle.KINDS)), int(rng.integers(comm.world_size))
        if rng.random() < 0.1:
            comm.barrier()
        one_call(comm, nodes, (int(seed), number), operation, dtype, op, kind, count * rows, root, rows)
    return {"calls": min(int(calls), len(cases)), "nodes": nodes}


def parts(comm):
    """Unequal counts, messages, parts of the communicator, in-place calls, empty ones, memory, norms."""
    world, rank = comm.world_size, comm.rank
    nodes = members_of(comm)
    counts = [3 * each % 5 for each in range(world)]
    whole = np.concatenate([np.arange(n) + 100 * each for each, n in enumerate(counts)]).astype("float32")
    recv, check = guarded(whole.size, whole.dtype)
    comm.all_gather_v(np.arange(counts[rank], dtype="float32") + 100 * rank, recv, counts)
    check()
    expect(recv, whole, "all_gather_v")

    matrix = np.random.default_rng(7).integers(0, 6, (world, world))
    send = np.concatenate([np.full(n, 10 * rank + peer) for peer, n in enumerate(matrix[rank])]).astype(
        "int32"
    )
    got = np.concatenate([np.full(n, 10 * peer + rank) for peer, n in enumerate(matrix[:, rank])]).astype(
        "int32"
    )
    recv, check = guarded(got.size, got.dtype)
    comm.all_to_all(send, recv, matrix[rank].tolist(), matrix[:, rank].tolist())
    check()
    expect(recv, got, "all_to_all with counts")

    for nbytes in (0, 1, 5000, 300000):  # a ring: even ranks send first
        data = np.full(nbytes, rank, np.uint8)
        recv, check = guarded(nbytes, data.dtype)
        steps = [
            lambda d=data: comm.send(d, (rank + 1) % world),
            lambda r=recv: comm.recv(r, (rank - 1) % world),
        ]
        for step in steps if rank % 2 == 0 else reversed(steps):
            step()
        check()
        assert (recv == (rank - 1) % world).all()

    both = np.zeros(world * 4, "int32")
    both[rank * 4 :][:4] = rank
    comm.all_gather(both[rank * 4 :][:4], both)
    expect(both, np.repeat(np.arange(world, dtype="int32"), 4), "all_gather in place")
    comm.all_reduce(np.empty(0, "float32"))
    address = np.full(6, rank, "float64")
    comm.all_reduce(address.ctypes.data, count=6, dtype="float64")
    assert (address == sum(range(world))).all()

    transposed = np.arange(12, dtype="float32").reshape(3, 4).T * (rank + 1)
    comm.all_reduce(transposed)  # dense, in another memory order
    assert (transposed == np.arange(12).reshape(3, 4).T * sum(range(1, world + 1))).all()

    node = comm.split_by_node()
    assert (node.world_size, node.rank, node.num_nodes) == (len(nodes[comm.node]), comm.local_rank, 1)
    local = np.full(9, rank, "int32")
    node.all_reduce(local)
    assert (local == sum(nodes[comm.node])).all()
    pairs = comm.split(rank % 2, -rank)  # of ranks of several nodes, in another order
    members = [each for each in reversed(range(world)) if each % 2 == rank % 2]
    assert (pairs.world_size, pairs.rank) == (len(members), members.index(rank))
    inputs = [
        oracle.make_input((5,), each, 500, oracle.dtype_of("bfloat16"), "plain") for each in range(world)
    ]
    mine = inputs[rank].copy()
    pairs.all_reduce(mine)
    groups = [[members.index(each) for each in members if each in node] for node in nodes]
    groups = sorted(group for group in groups if group)
    expect(mine, nodes_oracle.reduce([inputs[each] for each in members], "sum", groups), "of a split")
    assert comm.split(None if rank else 0) is None or rank == 0
    if pairs is not None:
        pairs.close()
    node.close()

    symmetric = comm.empty(100, "float32")
    symmetric.numpy()[...] = rank
    comm.all_reduce(symmetric)
    assert (symmetric.numpy() == sum(range(world))).all()
    comm.synchronize()

    dtype = oracle.dtype_of("bfloat16")
    inputs = [oracle.make_input((6,), each, 5 * 96, dtype, "plain").reshape(5, 96) for each in range(world)]
    residual = oracle.make_input((6,), 99, 5 * 96, dtype, "plain").reshape(5, 96)
    weight = oracle.make_input((6,), 98, 96, dtype, "plain")
    summed = nodes_oracle.reduce(inputs, "sum", nodes)
    expected, expected_residual = np.empty_like(residual), np.empty_like(residual)
    for name, extra in (("rms_norm", ()), ("layer_norm", (weight,))):
        getattr(comm, f"add_{name}")(summed, residual, weight, *extra, 1e-5, expected, expected_residual)
        out, residual_out, x = np.empty_like(residual), np.empty_like(residual), inputs[rank].copy()
        fused = getattr(comm, f"all_reduce_{name}")
        fused(x, residual, weight, *extra, 1e-5, out=out, residual_out=residual_out)
        expect(out.reshape(-1), expected.reshape(-1), name)
        expect(residual_out.reshape(-1), expected_residual.reshape(-1), f"residual of {name}")
        wide = np.zeros((5, 128), dtype)
        wide[:, :96] = inputs[rank]
        out[...] = 0
        address = wide.ctypes.data, residual.ctypes.data, weight.ctypes.data
        more = tuple(each.ctypes.data for each in extra)
        fused(*address, *more, 1e-5, out=out.ctypes.data, shape=(5, 96), dtype=dtype, row_strides={"x": 128})
        expect(out.reshape(-1), expected.reshape(-1), f"{name} of addresses")
    return {}


def everything(comm, calls, seed):
    """Both of these, for starting a job costs more."""
    parts(comm)
    return mixed(comm, calls, seed)


class Fixed:
    """One call on device memory that stays where it is, with new inputs for every run. On any platform."""

    def __init__(self, comm, nodes, memory, number, operation, name, op, count):
        self.comm, self.nodes, self.number = comm, nodes, number
        self.operation, self.dtype, self.op = operation, oracle.dtype_of(name), op
        self.root = 1 if operation in ("reduce", "broadcast") else 0
        self.count = count
        self.sends = count * (comm.world_size if operation in ("reduce_scatter", "all_to_all") else 1)
        self.receives = len(self.expected(0)[self.root])
        size = self.dtype.itemsize
        # any alignment that elements have
        self.send = memory.region(self.sends * size, number % 3 * size)
        self.recv = memory.region(self.receives * size, number % 2 * size)

    def inputs(self, run):
        ranks = range(self.comm.world_size)
        return [
            oracle.make_input((run, self.number), each, self.sends, self.dtype, "plain") for each in ranks
        ]

    def expected(self, run):
        return nodes_oracle.results(self.operation, self.inputs(run), self.op, self.root, 1, self.nodes)

    def fill(self, run):
        mine = self.inputs(run)[self.comm.rank]
        self.send.put(mine)
        self.recv.put(np.full(self.recv.nbytes, POISON, np.uint8))
        if self.operation == "broadcast" and self.comm.rank == self.root:
            self.recv.put(mine)

    def make(self, stream):
        comm, send, recv = self.comm, self.send.address, self.recv.address
        keywords = {"count": self.count, "dtype": self.dtype, "stream": int(stream)}
        if self.operation == "broadcast":
            comm.broadcast(recv, self.root, **keywords)
        elif self.operation == "reduce":
            comm.reduce(send, recv, self.op, self.root, **keywords)
        elif self.operation in REDUCING:
            getattr(comm, self.operation)(send, recv, self.op, **keywords)
        else:
            getattr(comm, self.operation)(send, recv, **keywords)

    def check(self, run):
        expected = self.expected(run)[self.comm.rank]
        got = self.recv.get(self.dtype)
        if expected is not None:
            expect(got, expected, f"{self.operation} {self.dtype.name} in run {run}")


def capture(stream, make):
    """What can be launched as often as one likes."""
    from hipcomm.hip import call, hip

    call("hipStreamBeginCapture", stream, hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal)
    try:
        make()
    finally:
        graph = call("hipStreamEndCapture", stream)
    return call("hipGraphInstantiateWithFlags", graph, 0)


ON_DEVICE = (
    ("all_reduce", "bfloat16", "sum", 100),
    ("all_reduce", "bfloat16", "avg", 160000),  # the long way
    ("all_reduce", "float32", "sum", 160003),  # in parts that are not whole
    ("all_reduce", "float16", "max", 1),
    ("reduce_scatter", "float16", "prod", 1001),
    ("reduce", "float8_e4m3fn", "min", 77),
    ("all_gather", "int32", "sum", 300),
    ("all_to_all", "uint8", "sum", 33),
    ("broadcast", "float64", "sum", 5000),
    ("reduce_scatter", "int8", "avg", 50),
)


def captured(comm, most=1 << 20, runs=4):
    """Calls in a graph, replayed, other calls in between; and a call that has not been made before.

    *most*: elements; longer calls are left out.
    """
    from hipcomm.hip import call, hip

    memory = regions.arena(32 << 20)
    nodes = members_on_device(comm, memory)
    stream = call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)
    calls = [
        Fixed(comm, nodes, memory, number, *what)
        for number, what in enumerate(ON_DEVICE)
        if what[-1] <= int(most)
    ]
    between = Fixed(comm, nodes, memory, 99, "all_reduce", "float32", "sum", 2000)

    def make():
        for each in calls:
            each.make(stream)
        comm.barrier(stream=int(stream))

    try:
        capture(stream, make)
    except hipcomm.InvalidArgument as error:
        said = str(error)
    else:
        said = "not refused"
    for run in range(int(runs)):
        for each in calls:
            each.fill(run)
        if run == 0:
            make()
            executable = capture(stream, make)
        else:
            call("hipGraphLaunch", executable, stream)
        comm.synchronize(stream=int(stream))
        for each in calls:
            each.check(run)
        between.fill(run)
        between.make(0)
        comm.synchronize()
        between.check(run)
    call("hipGraphExecDestroy", executable)  # NCCL's communicator waits for it
    return {"refused": said, "nodes": nodes, "platform": comm.platform}


def members_on_device(comm, memory):
    """As members_of(), with buffers in device memory."""
    own, everybody = memory.region(16), memory.region(16 * comm.world_size)
    own.put(np.array([comm.node, comm.local_rank], "int64"))
    comm.all_gather(own.address, everybody.address, count=2, dtype="int64")
    comm.synchronize()
    nodes = [[] for _ in range(comm.num_nodes)]
    for rank, (node, local) in enumerate(everybody.get(np.dtype("int64")).reshape(-1, 2).tolist()):
        assert len(nodes[node]) == local
        nodes[node].append(rank)
    return nodes


def replayed_alone(comm, directory):
    """A graph that one rank does not replay: the others' streams must not wait for ever."""
    from hipcomm.hip import call, hip

    stream = call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)
    x = np.ones(1000, "float32")

    def make():
        comm.all_reduce(x, stream=int(stream))

    make()
    executable = capture(stream, make)
    comm.barrier()
    begun = time.monotonic()
    if comm.rank == comm.world_size - 1:
        while (
            len(list(Path(directory).glob("*.said"))) < comm.world_size - 1 and time.monotonic() < begun + 30
        ):
            time.sleep(0.02)
        return {}
    try:
        call("hipGraphLaunch", executable, stream)
        comm.synchronize(stream=int(stream))
    except hipcomm.Error as error:
        report = {"kind": type(error).__name__, "text": str(error), "after": time.monotonic() - begun}
        Path(directory, f"{comm.rank}.said").touch()
        return report


def refused(comm):
    """What cannot be done is refused by name, and before anything was launched."""
    from hipcomm.hip import call, hip

    said = {}
    x = np.ones(4, "float32")
    stream = call("hipStreamCreate")
    mode = hip().hipStreamCaptureMode.hipStreamCaptureModeRelaxed

    def captured():
        call("hipStreamBeginCapture", stream, mode)
        try:
            comm.all_reduce(x, stream=int(stream))
        finally:
            call("hipStreamEndCapture", stream)

    attempts = {
        "plan": lambda: comm.plan("all_reduce", 1024),
        "register": lambda: comm.register(x),
        "sharded": lambda: comm.all_reduce_rms_norm(
            x.reshape(1, 4), None, None, 0.0, out=x.reshape(1, 4), residual_layout="sharded"
        ),
        "capture": captured,
        "root": lambda: comm.broadcast(x, 99),
        "self": lambda: comm.send(x, comm.rank),
        "op": lambda: comm.all_reduce(x, op="xor"),
        "sizes": lambda: comm.all_reduce(x, np.ones(5, "float32")),
        "overlap": lambda: comm.all_reduce(x[:3], x[1:]),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except hipcomm.InvalidArgument as error:
            said[name] = str(error)
        else:
            said[name] = "not refused"
    comm.all_reduce(x)
    assert (x == comm.world_size).all(), "the communicator is unharmed"
    return said


def until_it_fails(comm, directory, victim, how):
    """Calls without end, of which those after *how* has happened to rank *victim* must fail."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # mpirun's, once a rank has died: first we have our say
    rank, calls = comm.rank, 0
    x = np.zeros(3000, "float32")
    comm.barrier()
    begun = time.monotonic()
    try:
        while True:
            if calls == 20:
                Path(directory, f"{rank}.running").touch()
                if rank == int(victim):  # another's 20th call must not be what fails
                    deadline = time.monotonic() + 20
                    while len(list(Path(directory).glob("*.running"))) < comm.world_size:
                        assert time.monotonic() < deadline, "the others never came so far"
                        time.sleep(0.005)
                if rank == int(victim) and how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                if rank == int(victim) and how == "leaves":
                    return {"left": True}
                if rank == int(victim) and how == "late":
                    time.sleep(20)
            begun = time.monotonic()
            comm.all_reduce(x)
            calls += 1
    except hipcomm.Error as error:
        report = {"kind": type(error).__name__, "text": str(error), "peer": getattr(error, "peer", None)}
        report["after"] = time.monotonic() - begun
        try:
            comm.barrier()
            report["again"] = "no error"
        except hipcomm.Error as again:
            report["again"] = type(again).__name__
        begun = time.monotonic()
        comm.close()
        return {**report, "closing": time.monotonic() - begun}


def mismatched(comm):
    """A message that is not as long as its receiver expects, from another node."""
    last = comm.world_size - 1
    try:
        if comm.rank == 0:
            comm.send(np.zeros(10, "uint8"), last)
        if comm.rank == last:
            comm.recv(np.zeros(11, "uint8"), 0)
        comm.barrier()
    except hipcomm.CallMismatch as error:
        return {"text": str(error)}
    return {}


TASKS = {
    task.__name__: task
    for task in (mixed, everything, captured, replayed_alone, refused, until_it_fails, mismatched)
}


def main(directory, task, *arguments):
    report = {}
    host = os.environ.get("NODES_TEST_HOST")  # several nodes without namespaces
    if host:
        socket.gethostname = lambda: host
    known = ("OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "RANK")
    rank = next((os.environ[name] for name in known if name in os.environ), "alone")
    try:
        with hipcomm.init(platform=os.environ.get("HIPCOMM_PLATFORM", "cpu")) as comm:
            report = TASKS[task](comm, *arguments)
        report["closed"] = True
    except Exception:  # noqa: BLE001  the test shows it
        report["error"] = traceback.format_exc()
    Path(directory, rank).write_text(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
