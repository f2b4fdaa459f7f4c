/** From noise to latents: an asynchronous generator for each sampler, which yields the latents after each step. */
import { addNoise, denoised, logSnr } from "./schedule.js";

/** The network: its velocity at noisy latents and a sigma. */
export type Predict = (x: Float32Array, sigma: number) => Promise<Float32Array>;

/** Fresh noise of the latents' size. */
export type Draw = () => Float32Array;

export type Sampler = (predict: Predict, x: Float32Array, sigmas: Float32Array, draw: Draw) => AsyncGenerator<Float32Array>;

/** Denoise fully, then add fresh noise of the next sigma. Noise is drawn at the last step as well. */
async function* pingpong(predict: Predict, x: Float32Array, sigmas: Float32Array, draw: Draw): AsyncGenerator<Float32Array> {
  for (let i = 0; i + 1 < sigmas.length; i++) {
    const clean = denoised(x, await predict(x, sigmas[i]!), sigmas[i]!);
    x = addNoise(clean, draw(), sigmas[i + 1]!);
    yield x;
  }
}

/** Follow the velocity. */
async function* euler(predict: Predict, x: Float32Array, sigmas: Float32Array): AsyncGenerator<Float32Array> {
  for (let i = 0; i + 1 < sigmas.length; i++) {
    const velocity = await predict(x, sigmas[i]!);
    const step = Math.fround(sigmas[i + 1]! - sigmas[i]!);
    x = x.map((value, j) => value + Math.fround(step * velocity[j]!));
    yield x;
  }
}

/** DPM-Solver++(2M). */
async function* dpmpp(predict: Predict, x: Float32Array, sigmas: Float32Array): AsyncGenerator<Float32Array> {
  let previous: Float32Array | undefined;
  let lastH = 0;
  for (let i = 0; i + 1 < sigmas.length; i++) {
    const [sigma, after] = [sigmas[i]!, sigmas[i + 1]!];
    const clean = denoised(x, await predict(x, sigma), sigma);
    const h = logSnr(after) - logSnr(sigma);
    const before = previous;
    let target = clean;
    if (before !== undefined && after > 0) {
      const weight = Math.fround(h / (2 * lastH));
      const more = Math.fround(1 + weight);
      target = clean.map((value, j) => Math.fround(more * value) - Math.fround(weight * before[j]!));
    }
    const ratio = Math.fround(after / sigma);
    const factor = Math.fround(Math.fround(1 - after) * Math.fround(Math.expm1(-h)));
    x = x.map((value, j) => Math.fround(ratio * value) - Math.fround(factor * target[j]!));
    [previous, lastH] = [clean, h];
    yield x;
  }
}

export const SAMPLERS = { pingpong, euler, dpmpp } as const satisfies Record<string, Sampler>;

export type SamplerName = keyof typeof SAMPLERS;
