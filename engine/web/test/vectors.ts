/** The committed test vectors, and the runtimes that can be tried. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Runtime } from "../src/graph.js";
import type { Precision } from "../src/manifest.js";
import type { Options } from "../src/plan.js";

export interface Written {
  readonly shape: readonly number[];
  readonly stride: number;
  readonly float32: string;
}

export interface ClipVector {
  readonly name: string;
  readonly prompt: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly initial: { readonly frames: number; readonly seed: number; readonly level: number } | null;
  readonly cross_attention: Written;
  readonly global_condition: Written;
  readonly steps: readonly Written[];
  readonly audio: Written;
}

export interface BundleVectors {
  readonly model: string;
  readonly precision: Precision;
  readonly tokens: readonly { readonly prompt: string; readonly ids: readonly number[] }[];
  readonly clips: readonly ClipVector[];
}

export interface SharedVectors {
  readonly noise: readonly { readonly seed: number; readonly draws: readonly Written[] }[];
  readonly schedules: readonly { readonly steps: number; readonly start: number; readonly sigmas: Written }[];
  readonly samples: { readonly values: Written; readonly int16: readonly number[] };
}

const ROOT = new URL("../../../../", import.meta.url);

export const BUNDLES: Readonly<Record<string, string>> = {
  miniature: fileURLToPath(new URL("models/miniature/bundle", ROOT)),
  "sao-tiny": fileURLToPath(new URL("engine/sao_onnx/bundles/sao-tiny", ROOT)),
};

export function vectors(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`models/vectors/${name}.json`, ROOT), "utf-8"));
}

/** The values that are written of an array. */
export function values(written: Written): Float32Array {
  const bytes = Buffer.from(written.float32, "base64");
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
}

/** The values of an array that would be written. */
export function kept(array: Float32Array, written: Written): Float32Array {
  return array.filter((_, i) => i % written.stride === 0);
}

const NAMES: Readonly<Record<string, keyof Options>> = {
  cfg_scale: "cfgScale",
  negative_prompt: "negativePrompt",
  window_seconds: "windowSeconds",
  init_noise_level: "initNoiseLevel",
};

/** Options of the Python engine as those of this one. */
export function renamed(options: Readonly<Record<string, unknown>>): Options {
  return Object.fromEntries(Object.entries(options).map(([name, value]) => [NAMES[name] ?? name, value])) as Options;
}

/** The largest difference of two arrays. */
export function difference(found: Float32Array, expected: Float32Array): number {
  if (found.length !== expected.length) return Infinity;
  return found.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0);
}

/** Signal-to-noise ratio in decibels. */
export function decibels(found: Float32Array, expected: Float32Array): number {
  if (found.length !== expected.length) return -Infinity;
  let [signal, noise] = [0, 0];
  expected.forEach((value, i) => {
    signal += value ** 2;
    noise += (value - found[i]!) ** 2;
  });
  return 10 * Math.log10(signal / noise);
}

/** onnxruntime-web, and onnxruntime-node where it is installed. */
export async function runtimes(): Promise<[string, Runtime][]> {
  const web = await import("onnxruntime-web");
  web.env.wasm.numThreads = 1;
  const found: [string, Runtime][] = [["onnxruntime-web", web]];
  try {
    const name = "onnxruntime-node";
    found.push([name, (await import(name)) as Runtime]);
  } catch {
    // It is an optional peer.
  }
  return found;
}
