"""`abi.h` of the native operators is ONNX Runtime's interface, as a table made from its headers has it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import pytest

from tests.conftest import ROOT
from tools.onnxruntime_abi import ABI, FUNCTIONS, OPERATOR, TABLE, VALUES, read_abi, read_header, table, version_of

TEXT = ABI.read_text(encoding="utf-8")
KNOWN = json.loads(TABLE.read_text(encoding="utf-8"))
PARTS = ("functions", "operator", "base", "values")


def said(text):
    """What a text of `abi.h` says, as JSON has it."""
    return json.loads(json.dumps(asdict(read_abi(text))))


@pytest.mark.parametrize("part", PARTS)
def test_it_is_onnx_runtimes(part):
    assert said(TEXT)[part] == KNOWN[part]
    assert len(KNOWN[part]) > 1


def test_the_versions_that_are_asked_for():
    asked = version_of(TEXT, "API_VERSION")
    allowed = {int(minor) for minor in re.findall(r"onnxruntime>=1\.(\d+)", (ROOT / "pyproject.toml").read_text("utf-8"))}
    assert asked <= min(allowed)
    versions = sorted(map(int, KNOWN["headers"]))
    assert asked in versions
    assert versions[-1] > max(allowed)
    # ONNX Runtime reads no further than the members of the version that an operator says it has.
    of_operators = KNOWN["headers"][str(version_of(TEXT, "OPERATOR_VERSION"))]
    assert of_operators["last_of_operator"] == said(TEXT)["operator"][-1][0]


@pytest.mark.parametrize(
    ("before", "after", "part"),
    [
        ("Entry<62, ", "Entry<63, ", "functions"),
        ("Value*, void** data", "Value*, void* data", "functions"),
        ("size_t, int* is_constant", "size_t, int64_t* is_constant", "functions"),
        ("> release_shape;", "> shape_released;", "functions"),
        ("  void(SAO_CALL* destroy)(void*);\n", "", "operator"),
        ("uint32_t version;", "size_t version;", "operator"),
        ("char*(SAO_CALL* get_version)();", "char*(SAO_CALL* get_version)(int);", "base"),
        ("INT8 = 3", "INT8 = 4", "values"),
    ],
)
def test_what_is_not_would_be_found(before, after, part):
    assert TEXT.count(before) == 1
    found = said(TEXT.replace(before, after))
    assert [name for name in PARTS if found[name] != KNOWN[name]] == [part]


def header(version=23, more="", operator=None, first="OrtErrorCode"):
    """A header in the manner of ONNX Runtime's, with nothing between two functions that are used."""
    members = operator or [f"int(ORT_API_CALL* {name})(_In_ const struct OrtCustomOp* op);" for name in OPERATOR.values()]
    others = (name for name in FUNCTIONS.values() if name not in ("CreateStatus", "ReleaseStatus", "CreateCustomOpDomain"))
    parameters = "_In_reads_(count) const int64_t* lengths,\n  size_t count"
    functions = "\n".join(f"  ORT_API2_STATUS({name}, {parameters});" for name in others)
    return f"""
#define ORT_API_VERSION {version}
#define ORT_API2_STATUS(NAME, ...) \\
  OrtStatus*(ORT_API_CALL* NAME)(__VA_ARGS__)
// struct OrtApi {{ void(ORT_API_CALL* Wrong)(void); }};
typedef enum Elements {{ {", ".join(VALUES.values())} = 0x10, LAST }} Elements;
struct OrtApiBase {{ const char*(ORT_API_CALL* GetVersionString)(void)NO_EXCEPTION; }};
struct OrtApi {{
  /* The first; there are more. */
  OrtStatus*(ORT_API_CALL* CreateStatus)({first} code, _In_ const char* text)NO_EXCEPTION ORT_ALL_ARGS_NONNULL;
  {more}
#ifdef SOMETHING
  ORT_API_T(OrtMemType, CreateCustomOpDomain, _In_ void (*work)(void*, size_t), const OrtApi* api);
#endif
  ORT_CLASS_RELEASE(Status);
{functions}
}};
struct OrtCustomOp {{ {" ".join(members)} }};
"""


def test_a_header_is_read():
    found = read_header(header())
    assert found.functions["CreateStatus"] == (0, "struct*(int32, char*)")
    assert found.functions["CreateCustomOpDomain"] == (1, "int32(function, struct*)")
    assert found.functions["ReleaseStatus"] == (2, "void(struct*)")
    assert found.functions["CustomOpDomain_Add"] == (3, "struct*(int64*, size)")
    assert found.operator[-1] == ("GetEndVersion", "int32(struct*)")
    assert found.base == [("GetVersionString", "char*()")]
    assert list(found.values.values()) == [0, 1, 2, 3, 4, 16]
    both = table([header(24), header(23)])
    assert list(both["headers"]) == ["23", "24"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"more": "void(ORT_API_CALL* New)(void);"}, "of version 23 and of version 24 do not agree"),
        ({"first": "int64_t"}, "of version 23 and of version 24 do not agree"),
        ({"more": "int odd[3];"}, "struct OrtApi has a declaration that cannot be read: int odd"),
        ({"operator": ["int(ORT_API_CALL* version)(void);"]}, "do not agree"),
    ],
)
def test_headers_that_do_not_agree(changed, message):
    with pytest.raises(SystemExit, match=re.escape(message)):
        table([header(), header(24, **changed)])


def test_no_header():
    with pytest.raises(SystemExit, match="ORT_API_VERSION, expected onnxruntime_c_api"):
        table(["#pragma once\n"])
    with pytest.raises(SystemExit, match="OrtApi has no"):
        read_header(header().replace("GetDimensionsCount", "Other"))
