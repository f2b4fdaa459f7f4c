/** Makes clips in a thread of its own, with the model that lies beside the page. */
import * as ort from "onnxruntime-web/wasm";
import { fetched, load, wav, type Engine, type Options, type Read } from "../src/index.js";
import { chosenPrecision, parseManifest, type Manifest } from "../src/manifest.js";
import type { Answer, Wish } from "./messages.js";

const HERE = new URL(".", import.meta.url);
const WASM = "ort-wasm-simd-threaded.wasm";

/** Threads beyond a few gain little, and phones have cores of different speeds. */
const MOST_THREADS = 4;

let engine: Promise<Engine> | undefined;
let loaded = { seconds: 0, bytes: 0 };
let stopped = false;

function say(answer: Answer): void {
  self.postMessage(answer);
}

/** Paths of the files that a clip from words needs. */
function needed(manifest: Manifest): string[] {
  const precision = chosenPrecision(manifest);
  const graphs = manifest.graphs.filter((graph) => graph.precision === precision && graph.role !== "encoder");
  return [manifest.tokenizer, ...graphs.flatMap((graph) => [graph.path, ...graph.weights])];
}

async function opened(): Promise<Engine> {
  const began = performance.now();
  let [arrived, total] = [0, 0];
  const count = (_: string, bytes: number) => {
    arrived += bytes;
    if (total > 0) say({ type: "progress", doing: "Loading the model", fraction: Math.min(1, arrived / total) });
  };
  const model = fetched(new URL("model", HERE), count);
  const text = await model("manifest.json");
  const manifest = parseManifest(new TextDecoder().decode(text));
  const paths = needed(manifest);
  total = WASM_BYTES + manifest.files.reduce((sum, file) => sum + (paths.includes(file.path) ? file.size : 0), 0);
  // One after the other would cost a round trip each.
  const [wasm, ...contents] = await Promise.all([fetched(HERE, count)(WASM), ...paths.map((path) => model(path))]);
  const files = new Map([["manifest.json", text], ...paths.map((path, i) => [path, contents[i]!] as const)]);
  const read: Read = async (path) => {
    const bytes = files.get(path) ?? (await model(path));
    files.delete(path); // The runtime has a copy of its own.
    return bytes;
  };
  // Threads share memory, which a page may have only where its host isolates it from others.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
  ort.env.wasm.wasmBinary = wasm!;
  ort.env.wasm.wasmPaths = { mjs: new URL("ort-wasm-simd-threaded.mjs", HERE) };
  const found = await load(read, ort, { session: { executionProviders: ["wasm"] } });
  await found.open((fraction) => say({ type: "progress", doing: "Opening the model", fraction }));
  loaded = { seconds: (performance.now() - began) / 1000, bytes: arrived };
  return found;
}

async function make(prompt: string, options: Options): Promise<void> {
  stopped = false;
  engine ??= opened();
  engine.catch(() => (engine = undefined));
  const ready = await engine;
  const began = performance.now();
  say({ type: "progress", doing: "Making the clip", fraction: 0 });
  let cut = false;
  for await (const event of ready.stream(prompt, options)) {
    if (event.type === "conditioned") {
      ({ cut } = event);
      continue;
    }
    if (event.type === "finished") {
      const bytes = wav(event.clip);
      const [took, seconds] = [(performance.now() - began) / 1000, event.clip.channels[0]!.length / event.clip.sampleRate];
      const threads = ort.env.wasm.numThreads ?? 1;
      return say({ type: "clip", wav: bytes, seed: event.clip.seed, cut, seconds, took, loaded, threads });
    }
    // Decoding takes about as long as sampling.
    const done = event.type === "sampled" ? (event.index + 1) / event.steps / 2 : 0.5 + event.frames / event.total / 2;
    const doing = event.type === "sampled" ? "Sampling" : "Decoding";
    say({ type: "progress", doing, fraction: (event.window + done) / event.windows });
    // Whoever wants to stop is heard only between two turns of the event loop.
    await new Promise((resolve) => setTimeout(resolve));
    if (stopped) return say({ type: "stopped" });
  }
}

self.addEventListener("message", ({ data }: MessageEvent<Wish>) => {
  if (data.type === "stop") stopped = true;
  else make(data.prompt, data.options).catch((error: unknown) => {
    say({ type: "failed", message: error instanceof Error ? error.message : String(error) });
  });
});

self.postMessage({ type: "awake" } satisfies Answer);

declare const WASM_BYTES: number;
