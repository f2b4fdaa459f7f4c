/** Graphs as functions of arrays, over a runtime that is handed in: onnxruntime-web or onnxruntime-node. */
import type { InferenceSession, Tensor } from "onnxruntime-web";
import { BundleError, SaoOnnxError } from "./errors.js";
import type { GraphEntry } from "./manifest.js";

export type SessionOptions = InferenceSession.SessionOptions;

/** What is used of `onnxruntime-web` or `onnxruntime-node`. */
export interface Runtime {
  readonly InferenceSession: {
    create(model: Uint8Array, options?: SessionOptions): Promise<InferenceSession>;
  };
  readonly Tensor: {
    new (type: "float32", data: Float32Array, dims: readonly number[]): Tensor;
    new (type: "int64", data: BigInt64Array, dims: readonly number[]): Tensor;
    new (type: "uint8", data: Uint8Array, dims: readonly number[]): Tensor;
    new (type: "int8", data: Int8Array, dims: readonly number[]): Tensor;
  };
}

/** Reads a file of the bundle, by its path in the manifest. */
export type Read = (path: string) => Promise<Uint8Array>;

export interface Output {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}

export type Input = { readonly dims: readonly number[] } & ({ readonly data: Float32Array } | { readonly int64: readonly number[] });

/** A graph that is ready to run. */
export class Graph {
  private constructor(
    private readonly runtime: Runtime,
    private readonly session: InferenceSession,
    private readonly entry: GraphEntry,
  ) {}

  /** Open a graph with its weights. */
  static async open(runtime: Runtime, entry: GraphEntry, read: Read, options: SessionOptions): Promise<Graph> {
    const [model, ...weights] = await Promise.all([entry.path, ...entry.weights].map((path) => read(path)));
    // A graph names its weights without the folder, in which both lie.
    const externalData = weights.map((data, i) => ({ path: entry.weights[i]!.split("/").at(-1)!, data }));
    try {
      const session = await runtime.InferenceSession.create(model!, { ...options, externalData });
      return new Graph(runtime, session, entry);
    } catch (error) {
      throw new BundleError(`${entry.path} cannot be loaded: ${String(error)}`);
    }
  }

  /** Name of the first input. */
  get input(): string {
    return this.entry.inputs[0]!.name;
  }

  /** Run the graph; its outputs in the manifest's order. */
  async run(inputs: Readonly<Record<string, Input>>): Promise<Output[]> {
    const { Tensor } = this.runtime;
    const feeds: Record<string, Tensor> = {};
    for (const [name, input] of Object.entries(inputs)) {
      feeds[name] =
        "data" in input
          ? new Tensor("float32", input.data, input.dims)
          : new Tensor("int64", BigInt64Array.from(input.int64, BigInt), input.dims);
    }
    const found = await this.session.run(feeds);
    return this.entry.outputs.map(({ name }) => {
      const data = found[name]?.data;
      if (!(data instanceof Float32Array)) throw new BundleError(`${this.entry.path} has no output ${name} of float32`);
      if (!data.every(Number.isFinite)) throw new SaoOnnxError(`${this.entry.role} returned values that are not finite in ${name}`);
      return { data, dims: found[name]!.dims };
    });
  }

  /** Let go of its memory. */
  async release(): Promise<void> {
    await this.session.release();
  }
}
