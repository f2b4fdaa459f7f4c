/** Parts of a recording that are kept while the rest is made anew. */
import { denoised, velocity } from "./schedule.js";
import type { Predict } from "./sampler.js";

/** From and to, in seconds. */
export type Region = readonly [number, number];

/** Latents over which what is kept fades into what is sampled, inside the kept region. */
export const LATENT_RAMP = 4;

/** Seconds of the cross-fade of the audio, inside the kept region. */
export const AUDIO_RAMP = 0.03;

/**
 * How much of each frame or latent is kept, 0 to 1.
 *
 * @param regions To keep.
 * @param count Frames or latents.
 * @param rate Of them in a second.
 * @param ramp Seconds in which the weight falls to 0 inside the edges of a region; not at the ends of the clip.
 * @param seconds Length of the clip.
 */
export function weights(regions: readonly Region[], count: number, rate: number, ramp: number, seconds: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    const time = (i + 0.5) / rate;
    const kept = regions.map(([start, end]) => {
      const before = start <= 0 ? Infinity : time - start;
      const after = end >= seconds ? Infinity : end - time;
      return Math.min(1, Math.max(0, Math.min(before, after) / ramp));
    });
    return Math.max(0, ...kept);
  });
}

/** `weight·known + (1 − weight)·made`, where each weight counts for one frame of every channel. */
export function blended(known: Float32Array, made: Float32Array, frameWeights: Float32Array): Float32Array {
  const frames = frameWeights.length;
  return made.map((value, i) => {
    const weight = frameWeights[i % frames]!;
    return Math.fround(weight * known[i]!) + Math.fround(Math.fround(1 - weight) * value);
  });
}

/** A network whose estimate of the clean latents is `known` where they are kept. */
export function inpainting(predict: Predict, known: Float32Array, latentWeights: Float32Array): Predict {
  return async (x, sigma) => {
    const clean = denoised(x, await predict(x, sigma), sigma);
    return velocity(x, blended(known, clean, latentWeights), sigma);
  };
}
