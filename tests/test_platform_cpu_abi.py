"""hip_abi.h against hip-python: the same numbers, the same layouts."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from platform_cpu import PLATFORMS, hip, run_python

HEADER = PLATFORMS / "hip_abi.h"
ENUMERATIONS = re.findall(
    r"^typedef HIP_ENUM\((\w+)\) \{(.*?)^\}", HEADER.read_text(), re.DOTALL | re.MULTILINE
)
ENUMERATORS = [
    (enumeration, name, int(value))
    for enumeration, body in ENUMERATIONS
    for name, value in re.findall(r"(\w+) = (\d+)", body)
]
PROPERTIES = re.search(r"typedef struct hipDeviceProp_tR0600 \{(.*?)\}", HEADER.read_text(), re.DOTALL)


def test_the_header_was_parsed() -> None:
    assert len(ENUMERATIONS) == 11
    assert len(ENUMERATORS) > 150


@pytest.mark.parametrize("enumeration", sorted({entry[0] for entry in ENUMERATORS}))
def test_enumerators(enumeration: str) -> None:
    ours = {name: value for owner, name, value in ENUMERATORS if owner == enumeration}
    theirs = {name: int(getattr(getattr(hip, enumeration), name)) for name in ours}
    assert ours == theirs


def test_flags() -> None:
    flags = re.findall(r"^#define (hip\w+) (0x[0-9a-f]+|\d+)u$", HEADER.read_text(), re.MULTILINE)
    known = [(name, int(value, 0)) for name, value in flags if isinstance(getattr(hip, name, None), int)]
    assert len(known) >= 20
    # hip-python shows flags as signed numbers.
    assert [(name, getattr(hip, name) & 0xFFFFFFFF) for name, _ in known] == known


READ_EVERY_FIELD = """
import json
from hip import hip
error, properties = hip.hipGetDeviceProperties(0)
assert error == hip.hipError_t.hipSuccess
values = {name: getattr(properties, name) for name in json.loads(FIELDS)}
values = {name: value if isinstance(value, int) else list(value) for name, value in values.items()}
print(json.dumps({"size": properties.c_sizeof(), "values": values}))
"""


def test_device_properties_layout(tmp_path: Path) -> None:
    """A stand-in library writes each number's own offset into it; hip-python reads them by name."""
    assert PROPERTIES is not None
    fields = re.findall(r"^    (int|size_t|unsigned int) (\w+)(?:\[(\d+)\])?;", PROPERTIES[1], re.MULTILINE)
    assert len(fields) > 90
    writes = "\n".join(
        f"for (size_t i = 0; i < sizeof p->{name} / sizeof({type_}); ++i) (({type_}*)&p->{name})[i] ="
        f" ({type_})(offsetof(hipDeviceProp_tR0600, {name}) + i * sizeof({type_}));"
        for type_, name, _ in fields
    )
    offsets = "\n".join(
        f'printf("%s\\"{name}\\": %zu", separator, offsetof(hipDeviceProp_tR0600, {name})); separator = ", ";'
        for _, name, _ in fields
    )
    source = f"""
        #include "hip_functions.h"
        #include <stdio.h>
        #include <string.h>
        hipError_t hipGetDevicePropertiesR0600(hipDeviceProp_tR0600* p, int device) {{
            (void)device;
            memset(p, 0, sizeof *p);
            {writes}
            return hipSuccess;
        }}
        int main(void) {{
            const char* separator = "";
            printf("{{");
            {offsets}
            printf(", \\"size\\": %zu}}\\n", sizeof(hipDeviceProp_tR0600));
            return 0;
        }}
    """
    (tmp_path / "lib").mkdir()
    compiler = ["gcc", "-x", "c", "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{PLATFORMS}", "-"]
    for options in (["-o", "print"], ["-shared", "-fPIC", "-o", "lib/libamdhip64.so"]):
        subprocess.run([*compiler, *options], input=source, text=True, check=True, cwd=tmp_path, timeout=60)
    printed = subprocess.run([tmp_path / "print"], capture_output=True, check=True, timeout=10).stdout
    expected = json.loads(printed)
    size = expected.pop("size")

    script = f"FIELDS = {json.dumps(json.dumps(sorted(expected)))}\n{READ_EVERY_FIELD}"
    seen = json.loads(run_python(script, ROCM_PATH=str(tmp_path)))
    assert seen["size"] == size == 1472
    widths = {name: (8 if type_ == "size_t" else 4, int(count or 1)) for type_, name, count in fields}
    for name, offset in expected.items():
        width, count = widths[name]
        wanted = [offset + index * width for index in range(count)]
        value = seen["values"][name]
        assert (value if isinstance(value, list) else [value]) == wanted, name


def test_every_function_is_needed() -> None:
    """Of HIP's hundreds of functions, the platforms have those that the product or a test calls."""
    header = (PLATFORMS / "hip_functions.h").read_text()
    functions = re.findall(r"^(?:hipError_t|const char\*) (hip\w+)\(", header, re.MULTILINE)
    assert len(functions) > 90
    top = PLATFORMS.parents[1]
    files = [
        file for folder in ("hipcomm", "launcher", "bench", "tests") for file in (top / folder).rglob("*.*")
    ]
    files = [file for file in files if file.suffix in (".py", ".c", ".cpp") and file != Path(__file__)]
    # a platform may use its own functions, but not only define them
    text = "\n".join(re.sub(r"^hipError_t \w+", "", file.read_text(), flags=re.MULTILINE) for file in files)
    used = set(re.findall(r"\bhip[A-Z]\w+", text))
    assert sorted(set(functions) - used) == []
