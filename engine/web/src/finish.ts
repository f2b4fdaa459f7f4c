/** The last steps: the seam of a loop, and the level. */
import { frames, type Signal } from "./array.js";

/** Peak up to which audio is silence, which is not amplified. */
const SILENCE = 1e-6;

/** Scale to a peak of 1. */
export function normalized(samples: Float32Array): Float32Array {
  let peak = 0;
  for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
  return peak > SILENCE ? samples.map((sample) => sample / peak) : samples;
}

/** The first frames, with the tail behind them faded into their start, so that the end leads into the start. */
export function looped(signal: Signal, length: number): Signal {
  if (signal.frames <= length) return signal;
  const body = frames(signal, 0, length);
  const tail = frames(signal, length, signal.frames);
  for (let c = 0; c < signal.channels; c++) {
    for (let i = 0; i < tail.frames; i++) {
      const rise = Math.fround((i + 0.5) / tail.frames);
      const place = c * length + i;
      const faded = Math.fround(Math.fround(1 - rise) * tail.data[c * tail.frames + i]!);
      body.data[place] = Math.fround(rise * body.data[place]!) + faded;
    }
  }
  return body;
}
