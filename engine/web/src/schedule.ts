/** Rectified flow: the schedule of sigmas, and the way between noisy latents, predictions and clean latents. */
import { RequestError } from "./errors.js";

const LOG_SNR_START = -6;
const LOG_SNR_END = 2;

/** The least sigma that sampling can start from. */
export const LEAST_START = 0.12;

/**
 * Sigmas from `start` down to 0.
 *
 * @param steps Sampling steps, at least 1.
 * @param start 1, or the share of noise that initial audio begins with, 0.12 to 1.
 * @returns steps + 1 numbers.
 */
export function sigmas(steps: number, start = 1): Float32Array {
  if (!Number.isInteger(steps) || steps < 1) throw new RequestError(`steps is ${steps}, expected a whole number from 1 on`);
  if (!(start >= LEAST_START && start <= 1)) {
    throw new RequestError(`initNoiseLevel is ${start}, expected ${LEAST_START} to 1`);
  }
  const first = start === 1 ? LOG_SNR_START : Math.log((1 - start) / start + 1e-6);
  const result = Float32Array.from({ length: steps + 1 }, (_, i) => 1 / (1 + Math.exp(first + i * ((LOG_SNR_END - first) / steps))));
  result[0] = start;
  result[steps] = 0;
  return result;
}

/** `(1 − σ)·clean + σ·noise`, rounded to single precision at every operation, as the reference does. */
export function addNoise(clean: Float32Array, noise: Float32Array, sigma: number): Float32Array {
  const signal = Math.fround(1 - sigma);
  return clean.map((value, i) => Math.fround(signal * value) + Math.fround(sigma * noise[i]!));
}

/** The estimate of the clean latents, `x − σ·v`. */
export function denoised(x: Float32Array, velocity: Float32Array, sigma: number): Float32Array {
  return x.map((value, i) => value - Math.fround(sigma * velocity[i]!));
}

/** The velocity that stands for an estimate of the clean latents: the inverse of `denoised`. */
export function velocity(x: Float32Array, clean: Float32Array, sigma: number): Float32Array {
  return x.map((value, i) => Math.fround(value - clean[i]!) / sigma);
}

/** Logarithm of the ratio of signal to noise. */
export function logSnr(sigma: number): number {
  return sigma >= 1 ? -Infinity : sigma > 0 ? Math.log((1 - sigma) / sigma) : Infinity;
}
