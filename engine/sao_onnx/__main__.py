"""`python -m sao_onnx`: the same as the command `sao-onnx`."""

from __future__ import annotations

from sao_onnx.cli import program

if __name__ == "__main__":
    program()
