/** `manifest.json`: what the engine must know about a bundle before it opens a graph. */
import { BundleError } from "./errors.js";
import type { SamplerName } from "./sampler.js";

/** Version of the format that this release reads. */
export const FORMAT = 2;

export type Precision = "int8" | "fp32";

export type Role = "text_encoder" | "number_conditioner" | "context" | "dit" | "decoder_1" | "decoder_2" | "decoder_3" | "encoder";

export interface BundleFile {
  readonly path: string;
  readonly role: string;
  readonly size: number;
  readonly sha256: string;
}

export interface GraphEntry {
  readonly role: Role;
  readonly precision: Precision;
  readonly path: string;
  readonly weights: readonly string[];
  readonly inputs: readonly { readonly name: string }[];
  readonly outputs: readonly { readonly name: string }[];
}

export interface Segment {
  readonly rate: number;
  readonly context: number;
  readonly tile: number;
}

export interface Conditioning {
  readonly width: number;
  readonly prompt: { readonly id: string; readonly max_length: number; readonly pad_id: number };
  readonly numbers: readonly { readonly id: string; readonly minimum: number; readonly maximum: number }[];
  readonly cross_attention: readonly string[];
  readonly global_condition: readonly string[];
}

export interface Latents {
  readonly channels: number;
  readonly ratio: number;
  readonly margin?: number | null;
}

export interface Manifest {
  readonly format: number;
  readonly model: { readonly name: string };
  readonly audio: { readonly sample_rate: number; readonly channels: number; readonly window: number };
  readonly latents: Latents;
  readonly conditioning: Conditioning;
  readonly sampling: {
    readonly objective: string;
    readonly sampler: SamplerName;
    readonly steps: number;
    readonly cfg_scale: number;
  };
  readonly decoder: readonly Segment[];
  readonly tokenizer: string;
  readonly files: readonly BundleFile[];
  readonly graphs: readonly GraphEntry[];
}

const OBJECTIVES = ["rf_denoiser", "rectified_flow"];
const PRECISIONS: readonly Precision[] = ["int8", "fp32"];

/** What a manifest must hold: texts, numbers (1 for a whole number from 1 on, 0 for any), lists of what their entry is like. */
const SHAPE = {
  model: { name: "" },
  audio: { sample_rate: 1, channels: 1, window: 1 },
  latents: { channels: 1, ratio: 1 },
  conditioning: {
    width: 1,
    prompt: { id: "", max_length: 1, pad_id: 0 },
    numbers: [{ id: "", minimum: 0, maximum: 0 }],
    cross_attention: [""],
    global_condition: [""],
  },
  sampling: { objective: "", sampler: "", steps: 1, cfg_scale: 0 },
  decoder: [{ rate: 1, context: 0, tile: 0 }],
  tokenizer: "",
  files: [{ path: "", role: "", size: 0, sha256: "" }],
  graphs: [{ role: "", precision: "", path: "", weights: [""], inputs: [{ name: "" }], outputs: [{ name: "" }] }],
};

/** Where a value is not as it should be; nothing where it is. */
function misfit(value: unknown, shape: unknown, field: string): string | undefined {
  if (Array.isArray(shape)) {
    if (!Array.isArray(value)) return `${field} is no list`;
    return value.map((each, i) => misfit(each, shape[0], `${field}[${i}]`)).find((problem) => problem !== undefined);
  }
  if (typeof shape === "object") {
    if (typeof value !== "object" || value === null) return `${field} is missing`;
    const parts = Object.entries(shape as object).map(([name, part]) => {
      return misfit((value as Record<string, unknown>)[name], part, field === "" ? name : `${field}.${name}`);
    });
    return parts.find((problem) => problem !== undefined);
  }
  if (typeof value !== typeof shape) return `${field} is ${String(value)}, expected a ${typeof shape}`;
  if (shape === 1 && !(Number.isSafeInteger(value) && (value as number) >= 1)) return `${field} is ${String(value)}, expected 1 or more`;
  return undefined;
}

/** Segments whose rates divide each other, and whose tiles, but for the first, are not empty. */
function decoderProblem({ decoder, latents }: Manifest): string | undefined {
  const rates = [...decoder.map(({ rate }) => rate), latents.ratio];
  const fits = decoder.every(({ rate, context, tile }, i) => {
    const tiled = Number.isSafeInteger(tile) && tile >= 1 && Number.isSafeInteger(context) && context >= 0;
    return rates[i + 1]! % rate === 0 && (i === 0 || tiled);
  });
  return decoder.length >= 2 && decoder.length <= 3 && fits ? undefined : "decoder is no list of two or three segments that fit each other";
}

/** Read the text of a manifest. What is no manifest of this format is refused. */
export function parseManifest(text: string): Manifest {
  let manifest: Manifest;
  try {
    manifest = JSON.parse(text) as Manifest;
  } catch (error) {
    throw new BundleError(`manifest.json is not valid JSON (${String(error)}); copy the bundle again`);
  }
  if (manifest?.format !== FORMAT) {
    throw new BundleError(`manifest.json has format ${String(manifest?.format)}, this release reads format ${FORMAT}`);
  }
  const problem = misfit(manifest, SHAPE, "") ?? decoderProblem(manifest);
  if (problem !== undefined) throw new BundleError(`manifest.json: ${problem}; copy the bundle again`);
  if (!OBJECTIVES.includes(manifest.sampling.objective)) {
    throw new BundleError(`the objective is ${manifest.sampling.objective}, expected ${OBJECTIVES.join(" or ")}`);
  }
  return manifest;
}

/** The decoder's roles in the order in which they run. */
export function decoderRoles(manifest: Manifest): Role[] {
  return manifest.decoder.map((_, i) => `decoder_${i + 1}` as Role);
}

/** The precision to run: the wanted one, or the first of int8 and fp32 that the bundle holds whole. */
export function chosenPrecision(manifest: Manifest, wanted?: Precision): Precision {
  const roles: Role[] = ["text_encoder", "number_conditioner", "context", "dit", ...decoderRoles(manifest), "encoder"];
  const held = PRECISIONS.filter((p) => roles.every((role) => manifest.graphs.some((g) => g.role === role && g.precision === p)));
  const found = wanted === undefined ? held[0] : held.find((p) => p === wanted);
  if (found === undefined) throw new BundleError(`the bundle holds ${held.join(", ") || "no precision"}, not ${wanted ?? "a whole one"}`);
  return found;
}

/** The graph of a role. */
export function graphEntry(manifest: Manifest, role: Role, precision: Precision): GraphEntry {
  const found = manifest.graphs.find((graph) => graph.role === role && graph.precision === precision);
  if (found === undefined) throw new BundleError(`the bundle holds no ${role} in ${precision}`);
  return found;
}

/** Latents of a whole window. */
export function windowLatents(manifest: Manifest): number {
  return Math.floor(manifest.audio.window / manifest.latents.ratio);
}
