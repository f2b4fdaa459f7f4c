/** The graphs of a bundle, opened when they are first used. */
import { BundleError } from "./errors.js";
import { overflows, withUnsignedWeights } from "./exact.js";
import { Graph, type Read, type Runtime, type SessionOptions } from "./graph.js";
import { graphEntry, type Manifest, type Precision, type Role } from "./manifest.js";
import { Tokenizer } from "./tokenizer.js";

export class Stages {
  private readonly graphs = new Map<Role, Promise<Graph>>();
  private words: Promise<Tokenizer> | undefined;
  private unsigned: Promise<boolean> | undefined;

  constructor(
    private readonly manifest: Manifest,
    private readonly precision: Precision,
    private readonly read: Read,
    private readonly runtime: Runtime,
    private readonly options: SessionOptions,
  ) {}

  /** The graph of a role. */
  graph(role: Role): Promise<Graph> {
    const found = this.graphs.get(role) ?? this.open(role);
    this.graphs.set(role, found);
    // What failed is tried again.
    found.catch(() => this.graphs.delete(role));
    return found;
  }

  private async open(role: Role): Promise<Graph> {
    this.unsigned ??= this.precision === "int8" ? overflows(this.runtime) : Promise.resolve(false);
    // The encoder computes in single precision, and could not be opened with unsigned weights.
    const options = role !== "encoder" && (await this.unsigned) ? withUnsignedWeights(this.options) : this.options;
    return Graph.open(this.runtime, graphEntry(this.manifest, role, this.precision), this.read, options);
  }

  /** The tokenizer. */
  tokenizer(): Promise<Tokenizer> {
    const { tokenizer, conditioning } = this.manifest;
    this.words ??= this.read(tokenizer).then((bytes) => new Tokenizer(new TextDecoder().decode(bytes), conditioning.prompt.max_length));
    this.words.catch(() => (this.words = undefined));
    return this.words;
  }

  /** Let go of all graphs. */
  async release(): Promise<void> {
    const opened = [...this.graphs.values()];
    this.graphs.clear();
    for (const graph of await Promise.allSettled(opened)) if (graph.status === "fulfilled") await graph.value.release();
  }
}

/** A reader that compares what it reads with the sizes of the manifest and, where the platform can, with its digests. */
export function verified(manifest: Manifest, read: Read): Read {
  return async (path) => {
    const file = manifest.files.find((each) => each.path === path);
    if (file === undefined) throw new BundleError(`${path} is used but not listed in manifest.json; copy the bundle again`);
    const bytes = await read(path);
    if (bytes.length !== file.size) {
      throw new BundleError(`${path} has ${bytes.length} bytes, expected ${file.size}; copy the bundle again`);
    }
    // Browsers have `subtle` on https and localhost alone.
    const digest = await globalThis.crypto?.subtle?.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>);
    if (digest !== undefined && hexadecimal(digest) !== file.sha256) throw new BundleError(`${path} is damaged; copy the bundle again`);
    return bytes;
  };
}

function hexadecimal(bytes: ArrayBuffer): string {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
