"""Where ONNX Runtime's C interface has what the native operators use, as a table that a test compares with `abi.h`.

    python -m tools.onnxruntime_abi HEADER [HEADER ...]

reads `onnxruntime_c_api.h` of several versions of ONNX Runtime (in its source, under include/onnxruntime/core/session, and in
its archives for C), refuses headers that do not agree, and writes `tests/onnxruntime_abi.json`. The table holds facts alone:
names, positions, and the kinds of values that are passed.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ABI = ROOT / "engine" / "ops" / "src" / "abi.h"
TABLE = ROOT / "tests" / "onnxruntime_abi.json"

SOURCE = "onnxruntime_c_api.h of ONNX Runtime, which is under the MIT licence; names, positions and kinds of values alone"

FUNCTIONS = {
    "create_status": "CreateStatus",
    "create_domain": "CreateCustomOpDomain",
    "add_operator": "CustomOpDomain_Add",
    "add_domain": "AddCustomOpDomain",
    "data": "GetTensorMutableData",
    "axes": "GetDimensionsCount",
    "lengths": "GetDimensions",
    "shape": "GetTensorTypeAndShape",
    "input": "KernelContext_GetInput",
    "output": "KernelContext_GetOutput",
    "release_status": "ReleaseStatus",
    "release_shape": "ReleaseTensorTypeAndShapeInfo",
    "attribute": "KernelInfoGetAttributeArray_int64",
    "constant": "KernelInfoGetConstantInput_tensor",
    "parallel": "KernelContext_ParallelFor",
}
"""What `abi.h` calls the functions of the table OrtApi that it uses, and what ONNX Runtime does."""

OPERATOR = {
    "version": "version",
    "create": "CreateKernel",
    "name": "GetName",
    "provider": "GetExecutionProviderType",
    "input_type": "GetInputType",
    "input_count": "GetInputTypeCount",
    "output_type": "GetOutputType",
    "output_count": "GetOutputTypeCount",
    "compute": "KernelCompute",
    "destroy": "KernelDestroy",
    "input_presence": "GetInputCharacteristic",
    "output_presence": "GetOutputCharacteristic",
    "input_memory": "GetInputMemoryType",
    "variadic_input_least": "GetVariadicInputMinArity",
    "variadic_input_same": "GetVariadicInputHomogeneity",
    "variadic_output_least": "GetVariadicOutputMinArity",
    "variadic_output_same": "GetVariadicOutputHomogeneity",
    "create_checked": "CreateKernelV2",
    "compute_checked": "KernelComputeV2",
    "infer_shape": "InferOutputShapeFn",
    "first_version": "GetStartVersion",
    "last_version": "GetEndVersion",
}
"""The same for the members of OrtCustomOp, in their order."""

BASE = {"get_api": "GetApi", "get_version": "GetVersionString"}
"""The same for OrtApiBase."""

VALUES = {
    "Type::FLOAT": "ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT",
    "Type::UINT8": "ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8",
    "Type::INT8": "ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8",
    "Type::INT32": "ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32",
    "Presence::REQUIRED": "INPUT_OUTPUT_REQUIRED",
    "Presence::OPTIONAL": "INPUT_OUTPUT_OPTIONAL",
}
"""The same for the values of enumerations."""

_KINDS = {
    "void": "void",
    "char": "char",
    "size_t": "size",
    "int64_t": "int64",
    **dict.fromkeys(("int", "uint32_t"), "int32"),
    # Enumerations are as wide as an int.
    **dict.fromkeys(("OrtErrorCode", "ONNXTensorElementDataType", "OrtCustomOpInputOutputCharacteristic"), "int32"),
    **dict.fromkeys(("OrtMemType", "Type", "Presence"), "int32"),
}
"""Kinds of values by the names of types in C. All other types are structures."""


@dataclass(frozen=True)
class Interface:
    """What is used of the interface.

    Attributes:
        functions: Of OrtApi: position and form by ONNX Runtime's name.
        operator: Members of OrtCustomOp with their forms, from the first to the last that is used.
        base: Members of OrtApiBase with their forms, in their order.
        values: Of enumerations, by ONNX Runtime's names.
    """

    functions: dict[str, tuple[int, str]]
    operator: list[tuple[str, str]]
    base: list[tuple[str, str]]
    values: dict[str, int]


def read_header(text: str) -> Interface:
    """What is used of ONNX Runtime's own header.

    Raises:
        SystemExit: Something is not in it.
    """
    plain = _plain(text)
    found = list(_members(plain, "OrtApi"))
    functions = {name: (position, form) for position, (name, form) in enumerate(found)}
    operator = list(_members(plain, "OrtCustomOp"))[: len(OPERATOR)]
    base = list(_members(plain, "OrtApiBase"))
    values = _values(plain)
    if missing := [name for name in FUNCTIONS.values() if name not in functions]:
        raise SystemExit(f"OrtApi has no {', '.join(missing)}, expected a header of ONNX Runtime 1.17 or later")
    if missing := [name for name in VALUES.values() if name not in values]:
        raise SystemExit(f"no enumeration has {', '.join(missing)}")
    used = {name: functions[name] for name in FUNCTIONS.values()}
    return Interface(used, operator, base, {name: values[name] for name in VALUES.values()})


def read_abi(text: str) -> Interface:
    """What `abi.h` says, under ONNX Runtime's names; names that have none here stay as they are."""
    plain = _plain(text)
    functions = {
        FUNCTIONS.get(name, name): (int(position), _form(result, rest, f"{result}({rest}"))
        for position, result, rest, name in re.findall(
            r"Entry<(\d+), ([^(]+)\((.*?)> (\w+)$", "\n".join(_declarations(plain, "Api")), re.MULTILINE
        )
    }
    operator = [(OPERATOR.get(name, name), form) for name, form in _members(plain, "CustomOp")]
    base = [(BASE.get(name, name), form) for name, form in _members(plain, "ApiBase")]
    enumerations = re.findall(r"enum class (\w+) : int \{(.*?)\}", plain, re.DOTALL)
    values = {f"{kind}::{name}": number for kind, body in enumerations for name, number in _numbers(body)}
    return Interface(functions, operator, base, {VALUES.get(name, name): number for name, number in values.items()})


def version_of(text: str, name: str) -> int:
    """A number that a header defines.

    Raises:
        SystemExit: It does not.
    """
    if (found := re.search(rf"\b{name}\b\s*=?\s*(\d+)", _plain(text, keep_macros=True))) is None:
        raise SystemExit(f"the header does not define {name}, expected onnxruntime_c_api.h")
    return int(found[1])


def table(headers: Sequence[str]) -> dict[str, Any]:
    """The table of headers of several versions.

    Raises:
        SystemExit: They do not agree.
    """
    by_version = dict(sorted((version_of(text, "ORT_API_VERSION"), text) for text in headers))
    interfaces = {version: read_header(text) for version, text in by_version.items()}
    first, *others = interfaces.items()
    for version, interface in others:
        if interface != first[1]:
            raise SystemExit(f"the headers of version {first[0]} and of version {version} do not agree")
    about = {
        str(version): {
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "last_of_operator": list(_members(_plain(text), "OrtCustomOp"))[-1][0],
        }
        for version, text in by_version.items()
    }
    return {"source": SOURCE, "headers": about, **asdict(first[1])}


def _plain(text: str, *, keep_macros: bool = False) -> str:
    """A header without comments and lines of the preprocessor."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
    return text if keep_macros else re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", "", text, flags=re.MULTILINE)


def _declarations(plain: str, struct: str) -> Iterator[str]:
    """The declarations in a structure, each in one line; of functions with a body, the body as well."""
    if (begin := re.search(rf"\bstruct {struct} \{{", plain)) is None:
        raise SystemExit(f"the header has no struct {struct}")
    depth, end = 1, begin.end()
    while depth:
        depth += {"{": 1, "}": -1}.get(plain[end], 0)
        end += 1
    for declaration in plain[begin.end() : end - 1].split(";"):
        if line := " ".join(declaration.split()):
            yield line


def _members(plain: str, struct: str) -> Iterator[tuple[str, str]]:
    """Names and forms of what a structure holds.

    Raises:
        SystemExit: A declaration cannot be read, so that positions would be wrong.
    """
    for line in _declarations(plain, struct):
        if status := re.fullmatch(r"ORT_API2_STATUS\( ?(\w+)(?:, ?(.*))?\)[\w ]*", line):
            yield status[1], _form("OrtStatus*", f"{status[2] or ''})", line)
        elif other := re.fullmatch(r"ORT_API_T\( ?([^,]+), ?(\w+)(?:, ?(.*))?\)[\w ]*", line):
            yield other[2], _form(other[1], f"{other[3] or ''})", line)
        elif release := re.fullmatch(r"ORT_CLASS_RELEASE\((\w+)\)", line):
            yield f"Release{release[1]}", _form("void", f"Ort{release[1]}* input)", line)
        elif pointer := re.fullmatch(r"(.*?) ?\((?:ORT_API_CALL|SAO_CALL) ?\* ?(\w+)\) ?\((.*\))[\w ]*", line):
            yield pointer[2], _form(pointer[1], pointer[3], line)
        elif value := re.fullmatch(r"(\w+) (\w+)", line):
            yield value[2], _kind(value[1])
        else:
            raise SystemExit(f"struct {struct} has a declaration that cannot be read: {line}")


def _form(result: str, rest: str, whole: str) -> str:
    """What a function takes and returns, in kinds of values.

    Args:
        result: The type that it returns.
        rest: Its parameters, up to the closing bracket.
        whole: Its declaration, for errors.
    """
    depth, parameters = 1, [""]
    for letter in rest:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            break
        if letter == "," and depth == 1:
            parameters.append("")
        else:
            parameters[-1] += letter
    if depth:
        raise SystemExit(f"the brackets of a declaration do not match: {whole}")
    kinds = [_kind(parameter) for parameter in parameters if parameter.strip() not in ("", "void")]
    return f"{_kind(result)}({', '.join(kinds)})"


def _kind(declared: str) -> str:
    """The kind of a value, with a star for each pointer."""
    # Notes for analyzers of code: _In_, _In_reads_(count), _Outptr_.
    text = re.sub(r"\b_[A-Z]\w*_\b(?:\([^)]*\))?", "", declared)
    if re.search(r"\(\w* ?\*", text):
        return "function"
    # `abi.h` has the table of functions as what it is, pointers.
    text = text.replace("const void* const*", "Table*").replace("OrtStatusPtr", "OrtStatus*")
    words = [word for word in re.findall(r"\w+", text) if word not in ("const", "struct", "enum")]
    return _KINDS.get(words[0], "struct") + "*" * text.count("*")


def _values(plain: str) -> dict[str, int]:
    """All values of a header's enumerations."""
    return {name: value for body in re.findall(r"\benum \w+ \{(.*?)\}", plain, re.DOTALL) for name, value in _numbers(body)}


def _numbers(body: str) -> Iterator[tuple[str, int]]:
    """Names and numbers of an enumeration; those without a number follow the one before."""
    number = -1
    for entry in filter(None, map(str.strip, body.split(","))):
        name, _, written = entry.partition("=")
        try:
            number = int(written, 0) if written.strip() else number + 1
        except ValueError:  # An expression: nothing that is used.
            continue
        yield name.strip(), number


def main() -> int:
    """Write the table."""
    if not sys.argv[1:]:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    found = table([Path(name).read_text(encoding="utf-8") for name in sys.argv[1:]])
    TABLE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
