"""docs/protocol.md, hipcomm/abi/wire.h and Python's form of it say the same, to the byte."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest

from hipcomm import _wire as wire
from hipcomm.core import lib
from hipcomm.native import build_wire
from hipcomm.rendezvous import protocol

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
HEADER = build_wire.parse()
C_TYPES = {"u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t", "i32": "int32_t"}
C_TYPES["i64"] = "int64_t"

NAMES = HEADER.list_types()[0]
STRUCTURES = [name for name in NAMES if HEADER.typeof(name).kind == "struct"]
ENUMERATIONS = [name for name in NAMES if HEADER.typeof(name).kind == "enum"]


def rows(text):
    """The cells of the first table in *text*."""
    lines = [line.strip() for line in text.splitlines()]
    begin = next(i for i, line in enumerate(lines) if line.startswith("|---"))
    table = []
    for line in lines[begin + 1 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def python(name):
    return getattr(wire, name.removeprefix("hipcommWire"))


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_page_has_every_structure_to_the_byte(name):
    found = re.findall(rf"^ *`{name}`, (\d+) bytes.*:\n((?:\n.*)+?)(?=\n\n *[^|\s])", PAGE, re.MULTILINE)
    assert len(found) == 1, "a heading of its own, once"
    size, text = found[0]
    assert int(size) == HEADER.sizeof(name)
    described = [(int(offset), kind, field) for offset, kind, field, _ in rows(text)]
    declared = []
    for field, member in HEADER.typeof(name).fields:
        kind = next((k for k, c in C_TYPES.items() if c == member.type.cname), member.type.cname)
        declared.append((HEADER.offsetof(name, field), kind, field))
    assert described == declared


def test_the_page_names_no_structure_that_is_not_there():
    assert set(re.findall(r"hipcommWire\w+", PAGE)) <= set(NAMES)


def test_the_page_has_every_limit():
    described = {row[0].strip("`"): row[1] for row in rows(PAGE[PAGE.index("| limit |") :])}
    defined = re.findall(r"#define HIPCOMM_WIRE_(\w+) (\d\w*)", build_wire.declarations())
    assert {name: int(value) for name, value in described.items()} == {k: int(v, 0) for k, v in defined}


def test_the_page_has_every_tag():
    described = {row[0].strip("`") for row in rows(PAGE[PAGE.index("| tag | what each rank gives |") :])}
    steps = {"slabs": ["handles", "patterns", "verified"]}
    steps["region"] = [*steps["slabs"], "number"]
    assert {wire.STEP_HANDLES, wire.STEP_PATTERNS, wire.STEP_VERIFIED, wire.STEP_NUMBER} == set(
        steps["region"]
    )
    tags = re.findall(r'#define HIPCOMM_WIRE_TAG_\w+ "(.*)"', build_wire.declarations())
    assert described == {f"{tag}/{step}".rstrip("/") for tag in tags for step in steps.get(tag, [""])}


@pytest.mark.parametrize(
    "name, heading", [("Type", "type"), ("Refusal", "REFUSED code"), ("Failure", "FAILED code")]
)
def test_the_page_has_every_enumerator(name, heading):
    described = {row[1]: int(row[0]) for row in rows(PAGE[PAGE.index(f"| {heading} | name |") :])}
    assert described == {member.name: member.value for member in getattr(wire, name)}


def test_the_page_tells_to_whom_each_frame_goes():
    directions = {int(row[0]): row[2] for row in rows(PAGE[PAGE.index("| type | name |") :])}
    assert directions == {kind: "to the server" if kind < 16 else "to a client" for kind in wire.Type}


@pytest.mark.parametrize("name", STRUCTURES)
def test_python_packs_as_c_lays_out(name):
    generator = random.Random(name)
    c = HEADER.new(f"{name} *")
    buffer = HEADER.buffer(c)
    for _ in range(20):
        buffer[:] = generator.randbytes(len(buffer))
        fields = [getattr(c, field) for field, _ in HEADER.typeof(name).fields]
        values = [each if isinstance(each, int) else bytes(HEADER.buffer(each)) for each in fields]
        message = python(name)(*values)
        assert message.pack() == buffer[:]
        assert python(name).unpack(b"??" + buffer[:], 2) == message
    assert python(name).size() == HEADER.sizeof(name)
    assert list(python(name)._fields) == [field for field, _ in HEADER.typeof(name).fields]


def test_python_has_every_enumeration_and_what_is_built_is_new():
    for name in ENUMERATIONS:
        assert sorted(HEADER.typeof(name).elements) == sorted(member.value for member in python(name))
    built = Path(wire.__file__).read_text(encoding="utf-8")
    assert built == "".join(build_wire.module()), "wire.h has changed since make"


def test_the_results_that_the_rendezvous_knows_are_the_cores():
    assert (lib.hipcommSuccess, lib.hipcommPeerDied) == (protocol.SUCCESS, protocol.PEER_DIED)


@pytest.mark.parametrize("compiler", [["gcc", "-xc", "-std=c11"], ["g++", "-xc++", "-std=c++17"]])
def test_the_header_compiles_and_its_sizes_hold(compiler):
    subprocess.run(
        [*compiler, "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", ROOT / "hipcomm/abi/wire.h"],
        check=True,
        timeout=60,
    )


def examples():
    for block in re.findall(r"```\n((?:[0-9a-f]{2} .*\n|\n)+)```", PAGE):
        for example in block.split("\n\n"):
            zeros = re.search(r"\(and (\d+) times 00\)", example)
            data = bytes.fromhex(re.sub(r"\(.*\)", "", example))
            yield data + bytes(int(zeros.group(1)) if zeros else 0)


def test_the_examples_of_the_page():
    join = wire.Join(1, 2, 60000, 4660, protocol.pad_token("abc"))
    assert list(examples()) == [
        protocol.frame(wire.Type.JOIN, join.pack()),
        protocol.frame(wire.Type.ACCEPTED),
        protocol.frame(wire.Type.WELCOME, wire.Welcome(2).pack()),
        protocol.pack_gather(protocol.GatherMessage(7, 0, 1000, (), "t", b"hi")),
        protocol.pack_result(7, [b"x", b"hi"]),
    ]


def test_more_bytes_written_out_by_hand():
    gather = protocol.pack_gather(protocol.GatherMessage(5, 6, 7, (1, 0), "tg", b"data"))
    assert gather.hex(" ") == (
        "48 49 50 43 02 00 02 00 1e 00 00 00 05 00 00 00 06 00 00 00 07 00 00 00 02 00 02 00 "
        "01 00 00 00 00 00 00 00 74 67 64 61 74 61"
    )
    failed = wire.Failed(5, wire.Failure.PEER_LEFT, 2)
    assert protocol.pack_with_text(wire.Type.FAILED, failed, "é").hex(" ") == (
        "48 49 50 43 02 00 14 00 0e 00 00 00 05 00 00 00 03 00 00 00 02 00 00 00 c3 a9"
    )
    refused = wire.Refused(wire.Refusal.JOIN_TIMEOUT, wire.NO_PEER)
    assert protocol.pack_with_text(wire.Type.REFUSED, refused, "x").hex(" ") == (
        "48 49 50 43 02 00 12 00 09 00 00 00 05 00 00 00 ff ff ff ff 78"
    )
    aborted = protocol.pack_with_text(wire.Type.ABORTED, wire.Peer(3, 5), "y")
    assert aborted.hex(" ") == "48 49 50 43 02 00 16 00 09 00 00 00 03 00 00 00 05 00 00 00 79"
