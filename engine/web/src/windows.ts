/** How long a clip is, and the windows that it takes. */
import { rounded } from "./array.js";
import { RequestError } from "./errors.js";
import type { Region } from "./inpainting.js";
import type { Manifest } from "./manifest.js";
import type { Options } from "./plan.js";

/** Seconds by which a length may exceed a limit, for rounding. */
export const TOLERANCE = 1e-6;

/** Seconds after the end of a loop that are faded into its start. */
const TAIL = 0.05;

const DEFAULT_BEATS = 4;

/** Seconds that can be added at once, and of the longest clip. */
const MOST_SECONDS = 3600;

/** A window without its seed. `seconds` is what the model is told of its length. */
export interface Part {
  readonly start: number;
  readonly frames: number;
  readonly tail: number;
  readonly seconds: number;
  readonly kept: readonly Region[] | undefined;
}

/** The prompt, with the tempo, if there is one, where it names none. */
export function withTempo(prompt: string, bpm: number | undefined): string {
  return bpm === undefined || /\p{Nd}\s*bpm\b/iu.test(prompt) ? prompt : `${prompt}, ${Number(bpm.toPrecision(6))} BPM`;
}

/**
 * The windows that a clip takes.
 *
 * @param most Frames of a window.
 * @param recorded Frames of the initial audio.
 */
export function windowParts(manifest: Manifest, options: Options, most: number, recorded: number): Part[] {
  const { sample_rate: rate, window } = manifest.audio;
  if (options.extend !== undefined) {
    refuse(options, ["seconds", "keep", "regenerate", "loop", "bpm", "bars", "beats", "windowSeconds"], "extend decides it");
    return extension(recorded, rounded(options.extend * rate), window, rate);
  }
  const seconds = oneWindow(options, most / rate);
  if (seconds <= most / rate + TOLERANCE) return [onePart(options, seconds, most, rate)];
  const why = `a clip with it has one window of ${shown(most / rate)} s, and seconds is ${seconds}`;
  refuse(options, ["initAudio", "loop", "windowSeconds"], why);
  if (seconds > MOST_SECONDS) throw new RequestError(`seconds is ${seconds}, expected at most ${MOST_SECONDS}`);
  const first = { start: 0, frames: most, tail: 0, seconds: window / rate, kept: undefined };
  return [first, ...extension(window, rounded(seconds * rate) - window, window, rate)];
}

/** Seconds as text. */
export function shown(seconds: number): string {
  return String(Number(seconds.toFixed(3)));
}

function refuse(options: Options, names: readonly (keyof Options)[], why: string): void {
  const found = names.find((name) => options[name] !== undefined && options[name] !== false);
  if (found !== undefined) throw new RequestError(`leave ${found} out: ${why}`);
}

/** The length in seconds, as it is asked for. */
function oneWindow(options: Options, limit: number): number {
  const { seconds, loop, bpm, bars, beats } = options;
  if (bpm !== undefined || bars !== undefined || beats !== undefined) {
    if (!(bpm !== undefined && bpm >= 20 && bpm <= 400 && bars !== undefined && Number.isInteger(bars) && bars >= 1)) {
      throw new RequestError("a loop needs bpm, 20 to 400, and a whole number of bars");
    }
    refuse(options, ["seconds", "loop"], "bpm and bars decide it");
    const length = (bars * (beats ?? DEFAULT_BEATS) * 60) / bpm;
    if (!(length > 0 && length <= limit)) {
      throw new RequestError(`${bars} bars at ${bpm} BPM are ${shown(length)} s, and the window is ${shown(limit)} s`);
    }
    return length;
  }
  const length = seconds ?? (loop && limit > 2 * TAIL ? limit - TAIL : limit);
  if (!(length > 0)) throw new RequestError(`seconds is ${length}, expected more than 0`);
  return length;
}

function onePart(options: Options, seconds: number, most: number, rate: number): Part {
  const frames = Math.min(rounded(seconds * rate), most);
  if (frames < 1) throw new RequestError(`seconds is ${seconds}, expected at least one frame of audio`);
  const looped = options.loop === true || options.bpm !== undefined;
  return {
    start: 0,
    frames,
    tail: looped ? Math.min(rounded(TAIL * rate), most - frames, frames) : 0,
    // A loop must not come to its end.
    seconds: looped ? most / rate : seconds,
    kept: keptRegions(options, Math.min(seconds, most / rate)),
  };
}

/** The windows that make a recording longer: each begins with the end of what there is. */
function extension(length: number, added: number, window: number, rate: number): Part[] {
  const most = MOST_SECONDS * rate;
  if (!(added >= 1 && added <= most)) throw new RequestError(`extend adds ${added} frames, expected 1 to ${most}`);
  if (length < rate / 10) throw new RequestError(`the recording has ${length} frames; extend needs at least 0.1 s of audio`);
  const parts: Part[] = [];
  for (let [end, left] = [length, added]; left > 0; ) {
    const half = Math.min(end, Math.floor(window / 2));
    const step = Math.min(left, window - half);
    // The last window keeps as much as it has room for.
    const kept = step === left ? Math.min(end, window - step) : half;
    const seconds = (kept + step) / rate;
    parts.push({ start: end - kept, frames: Math.min(rounded(seconds * rate), window), tail: 0, seconds, kept: [[0, kept / rate]] });
    [end, left] = [end + step, left - step];
  }
  return parts;
}

/** The regions to keep, sorted and joined; nothing where neither option is given. */
function keptRegions({ keep, regenerate }: Options, seconds: number): Region[] | undefined {
  if (keep !== undefined && regenerate !== undefined) throw new RequestError("keep and regenerate exclude each other");
  const given = keep ?? regenerate;
  if (given === undefined) return undefined;
  let regions: Region[] = [];
  for (const [start, end] of [...given].sort((a, b) => a[0] - b[0])) {
    if (!(start >= 0 && start < end && end <= seconds + TOLERANCE)) {
      throw new RequestError(`a region is ${start} to ${end}, expected seconds from 0 to ${shown(seconds)}`);
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
