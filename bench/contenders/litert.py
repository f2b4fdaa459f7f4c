"""LiteRT with XNNPACK, quantized like Arm's demo: DiT in dynamic int8, decoder in float. T5, 1 % of the time, is left out."""

from __future__ import annotations

from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

from bench.contenders.clip import Array, Loader, Network, main


def _loader(name: str) -> Loader:
    def load(folder: Path, variant: str, threads: int) -> Network:
        interpreter = Interpreter(model_path=str(folder / "litert" / f"{name}.tflite"), num_threads=threads)
        interpreter.allocate_tensors()
        # Their names end in the number of the argument.
        inputs = sorted(interpreter.get_input_details(), key=lambda detail: detail["name"])
        (output,) = interpreter.get_output_details()

        def network(*arrays: Array) -> Array:
            for detail, array in zip(inputs, arrays, strict=True):
                interpreter.set_tensor(detail["index"], array)
            interpreter.invoke()
            result: Array = interpreter.get_tensor(output["index"])
            return result

        return network

    return load


if __name__ == "__main__":
    main(_loader("dit"), _loader("decoder"))
