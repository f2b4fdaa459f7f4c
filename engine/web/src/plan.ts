/** What options mean: everything about a clip is decided here, before any work. */
import { rounded, type Signal } from "./array.js";
import { RequestError } from "./errors.js";
import type { Region } from "./inpainting.js";
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
  /** Length, at most the window. */
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
  /** Scale to a peak of 1, the default, or not, the default where something is kept. */
  readonly normalize?: "peak" | "none";
}

export interface Plan {
  readonly prompt: string;
  readonly seed: number;
  readonly sampler: SamplerName;
  readonly sigmas: Float32Array;
  readonly guidance: { readonly scale: number; readonly negativePrompt: string | undefined } | undefined;
  /** Latents that are sampled. */
  readonly latents: number;
  /** Frames of the clip. */
  readonly frames: number;
  readonly numbers: Readonly<Record<string, number>>;
  readonly initial: Signal | undefined;
  readonly kept: readonly Region[] | undefined;
  readonly normalize: boolean;
}

const MAX_SEED = 2 ** 32 - 1;
const DEFAULT_NOISE_LEVEL = 0.7;
const DURATION = "seconds_total";
/** Seconds by which a length may exceed a limit, for rounding. */
const TOLERANCE = 1e-6;

export function plan(manifest: Manifest, prompt: string, options: Options): Plan {
  const { sample_rate: rate } = manifest.audio;
  const latents = sampledLatents(manifest, options.windowSeconds);
  const most = latents * manifest.latents.ratio;
  const seconds = options.seconds ?? most / rate;
  if (!(seconds <= most / rate + TOLERANCE && rounded(seconds * rate) >= 1)) {
    throw new RequestError(`seconds is ${seconds}, expected more than 0 and at most ${most / rate}`);
  }
  const kept = keptRegions(options, Math.min(seconds, most / rate));
  if ((kept !== undefined || options.initNoiseLevel !== undefined) && options.initAudio === undefined) {
    throw new RequestError("keep, regenerate and initNoiseLevel need initAudio; give it too");
  }
  const start = options.initNoiseLevel ?? (options.initAudio !== undefined && kept === undefined ? DEFAULT_NOISE_LEVEL : 1);
  return {
    prompt,
    seed: checkedSeed(options.seed),
    sampler: checkedSampler(options.sampler ?? manifest.sampling.sampler),
    sigmas: sigmas(options.steps ?? manifest.sampling.steps, start),
    guidance: guidance(options.cfgScale ?? manifest.sampling.cfg_scale, options.negativePrompt),
    latents,
    frames: Math.min(rounded(seconds * rate), most),
    numbers: numbers(manifest, options.numbers ?? {}, seconds),
    initial: options.initAudio && initialSignal(manifest, options.initAudio),
    kept,
    normalize: (options.normalize ?? (kept === undefined ? "peak" : "none")) === "peak",
  };
}

function sampledLatents(manifest: Manifest, windowSeconds: number | undefined): number {
  const [whole, { sample_rate: rate, window }] = [windowLatents(manifest), manifest.audio];
  if (windowSeconds === undefined) return whole;
  if (!(windowSeconds > 0 && windowSeconds <= window / rate + TOLERANCE)) {
    throw new RequestError(`windowSeconds is ${windowSeconds}, expected more than 0 and at most ${window / rate}`);
  }
  return Math.min(Math.max(1, Math.ceil((windowSeconds * rate - 1e-3) / manifest.latents.ratio)), whole);
}

function checkedSeed(seed: number | undefined): number {
  if (seed === undefined) return crypto.getRandomValues(new Uint32Array(1))[0]!;
  if (!Number.isInteger(seed) || seed < 0 || seed > MAX_SEED) throw new RequestError(`seed is ${seed}, expected 0 to ${MAX_SEED}`);
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

/** The regions to keep, sorted and joined; nothing where neither option is given. */
function keptRegions({ keep, regenerate }: Options, seconds: number): Region[] | undefined {
  if (keep !== undefined && regenerate !== undefined) throw new RequestError("keep and regenerate exclude each other");
  const given = keep ?? regenerate;
  if (given === undefined) return undefined;
  let regions: Region[] = [];
  for (const [start, end] of [...given].sort((a, b) => a[0] - b[0])) {
    if (!(start >= 0 && start < end && end <= seconds + TOLERANCE)) {
      throw new RequestError(`a region is ${start} to ${end}, expected seconds from 0 to ${seconds}`);
    }
    const last = regions.at(-1);
    if (last !== undefined && start <= last[1]) regions[regions.length - 1] = [last[0], Math.max(last[1], Math.min(end, seconds))];
    else regions.push([start, Math.min(end, seconds)]);
  }
  if (regenerate !== undefined) {
    const edges = [0, ...regions.flat(), seconds];
    const between = Array.from({ length: edges.length / 2 }, (_, i): Region => [edges[2 * i]!, edges[2 * i + 1]!]);
    regions = between.filter(([start, end]) => end > start);
  }
  if (regions[0] !== undefined && regions[0][0] <= 0 && regions[0][1] >= seconds) {
    throw new RequestError("everything would be kept; leave something to make");
  }
  return regions;
}
