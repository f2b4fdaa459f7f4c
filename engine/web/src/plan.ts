/** What options mean: everything about a clip is decided here, before any work. */
import { type Signal } from "./array.js";
import { RequestError } from "./errors.js";
import type { Region } from "./inpainting.js";
import { shown, TOLERANCE, windowParts, withTempo } from "./windows.js";
import { windowLatents, type Manifest } from "./manifest.js";
import { SAMPLERS, type SamplerName } from "./sampler.js";
import { sigmas } from "./schedule.js";

/** Audio to start from, at the sample rate of the model. */
export interface InitialAudio {
  readonly channels: readonly Float32Array[];
  readonly sampleRate: number;
}

/** Options of a clip. What is left out is the model's. They mean what those of the same names mean in Python. */
export interface Options {
  /** Length. What is longer than the window of the model is made in windows that overlap, each with the next seed. */
  readonly seconds?: number;
  readonly steps?: number;
  /** 0 to 2³² − 1. The same seed gives the same clip; by default a random one. */
  readonly seed?: number;
  readonly sampler?: SamplerName;
  /** Guidance; 1 is none, other values double the work. */
  readonly cfgScale?: number;
  readonly negativePrompt?: string;
  /** Sample a shorter window: less work, but not what the model was trained on. */
  readonly windowSeconds?: number;
  /** Values of number conditioners, by name. */
  readonly numbers?: Readonly<Record<string, number>>;
  readonly initAudio?: InitialAudio;
  /** How much noise to start from, 0.12 to 1; by default 0.7, or 1 where something is kept. */
  readonly initNoiseLevel?: number;
  /** Regions of the initial audio that stay as they are. */
  readonly keep?: readonly Region[];
  /** Regions to make anew; the rest is kept. */
  readonly regenerate?: readonly Region[];
  /** Seconds to add to the end of the initial audio. The clip is the recording, unchanged, and what was added. */
  readonly extend?: number;
  /** The end leads into the start, without a seam. */
  readonly loop?: boolean;
  /** With `bars`: a loop of exactly their length. The tempo is added to a prompt that names none. */
  readonly bpm?: number;
  readonly bars?: number;
  /** Beats in a bar; by default 4. */
  readonly beats?: number;
  /** Scale to a peak of 1, the default, or not, the default where something is kept. */
  readonly normalize?: "peak" | "none";
}

/** Latents that are sampled and decoded together. */
export interface Window {
  readonly seed: number;
  /** Frame of the clip where it begins. What the clip holds from there on is its initial audio. */
  readonly start: number;
  /** Its frames, which regions count on. */
  readonly frames: number;
  /** Frames behind them that are faded into the start of a loop. */
  readonly tail: number;
  readonly numbers: Readonly<Record<string, number>>;
  readonly kept: readonly Region[] | undefined;
}

export interface Plan {
  readonly prompt: string;
  readonly sampler: SamplerName;
  readonly sigmas: Float32Array;
  readonly guidance: { readonly scale: number; readonly negativePrompt: string | undefined } | undefined;
  /** Latents of a window. */
  readonly latents: number;
  readonly windows: readonly Window[];
  readonly initial: Signal | undefined;
  readonly normalize: boolean;
}

const MAX_SEED = 2 ** 32 - 1;
const DEFAULT_NOISE_LEVEL = 0.7;
const DURATION = "seconds_total";

export function plan(manifest: Manifest, prompt: string, options: Options): Plan {
  const latents = sampledLatents(manifest, options.windowSeconds);
  const initial = options.initAudio && initialSignal(manifest, options.initAudio);
  if (initial === undefined) {
    const needs = (["initNoiseLevel", "keep", "regenerate", "extend"] as const).find((name) => options[name] !== undefined);
    if (needs !== undefined) throw new RequestError(`${needs} needs initAudio; give it too`);
  }
  const parts = windowParts(manifest, options, latents * manifest.latents.ratio, initial?.frames ?? 0);
  const seed = checkedSeed(options.seed, parts.length);
  const keeps = options.keep !== undefined || options.regenerate !== undefined || options.extend !== undefined;
  const start = options.initNoiseLevel ?? (initial !== undefined && !keeps ? DEFAULT_NOISE_LEVEL : 1);
  return {
    prompt: withTempo(prompt, options.bpm),
    sampler: checkedSampler(options.sampler ?? manifest.sampling.sampler),
    sigmas: sigmas(options.steps ?? manifest.sampling.steps, start),
    guidance: guidance(options.cfgScale ?? manifest.sampling.cfg_scale, options.negativePrompt),
    latents,
    windows: parts.map(({ start, frames, tail, seconds, kept }, i) => {
      return { seed: seed + i, start, frames, tail, kept, numbers: numbers(manifest, options.numbers ?? {}, seconds) };
    }),
    initial,
    normalize: (options.normalize ?? (keeps ? "none" : "peak")) === "peak",
  };
}

function sampledLatents(manifest: Manifest, windowSeconds: number | undefined): number {
  const [whole, { sample_rate: rate, window }] = [windowLatents(manifest), manifest.audio];
  if (windowSeconds === undefined) return whole;
  if (!(windowSeconds > 0 && windowSeconds <= window / rate + TOLERANCE)) {
    throw new RequestError(`windowSeconds is ${windowSeconds}, expected more than 0 and at most ${shown(window / rate)}`);
  }
  return Math.min(Math.max(1, Math.ceil((windowSeconds * rate - 1e-3) / manifest.latents.ratio)), whole);
}

function checkedSeed(seed: number | undefined, windows: number): number {
  const most = MAX_SEED - windows + 1;
  if (seed === undefined) return Math.min(crypto.getRandomValues(new Uint32Array(1))[0]!, most);
  if (!Number.isInteger(seed) || seed < 0 || seed > most) throw new RequestError(`seed is ${seed}, expected 0 to ${most}`);
  return seed;
}

function checkedSampler(name: SamplerName): SamplerName {
  if (!Object.hasOwn(SAMPLERS, name)) throw new RequestError(`sampler is ${name}, expected ${Object.keys(SAMPLERS).join(", ")}`);
  return name;
}

function guidance(scale: number, negativePrompt: string | undefined): Plan["guidance"] {
  if (!(scale >= 0 && scale <= 100)) throw new RequestError(`cfgScale is ${scale}, expected 0 to 100`);
  return scale === 1 ? undefined : { scale, negativePrompt };
}

function numbers(manifest: Manifest, given: Readonly<Record<string, number>>, seconds: number): Record<string, number> {
  const known = manifest.conditioning.numbers;
  for (const [name, value] of Object.entries(given)) {
    if (!known.some(({ id }) => id === name)) {
      throw new RequestError(`the model has no number ${name}; it has ${known.map(({ id }) => id).join(", ")}`);
    }
    if (!Number.isFinite(value)) throw new RequestError(`${name} is ${value}, expected a number`);
  }
  const defaults = known.map(({ id, minimum }) => [id, id === DURATION ? seconds : minimum] as const);
  return { ...Object.fromEntries(defaults), ...given };
}

/** The initial audio with the channels of the model: one copied to both, the first two of more, or the mean for one. */
function initialSignal(manifest: Manifest, audio: InitialAudio): Signal {
  const { sample_rate: rate, channels: wanted } = manifest.audio;
  if (audio.sampleRate !== rate) {
    throw new RequestError(`initAudio has ${audio.sampleRate} Hz, expected ${rate}; resample it before`);
  }
  const given = audio.channels;
  const length = given[0]?.length ?? 0;
  if (length === 0 || given.some((channel) => channel.length !== length)) {
    throw new RequestError("initAudio is empty, or its channels have different lengths");
  }
  const used = wanted === 1 ? [mean(given)] : [given[0]!, given[1] ?? given[0]!];
  const data = new Float32Array(wanted * length);
  used.forEach((channel, i) => data.set(channel, i * length));
  if (!data.every(Number.isFinite)) throw new RequestError("initAudio holds samples that are no finite numbers");
  return { data, channels: wanted, frames: length };
}

function mean(channels: readonly Float32Array[]): Float32Array {
  return channels[0]!.map((_, i) => channels.reduce((sum, channel) => sum + channel[i]!, 0) / channels.length);
}
