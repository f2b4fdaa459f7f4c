/** The last step: the level. */

/** Peak up to which audio is silence, which is not amplified. */
const SILENCE = 1e-6;

/** Scale to a peak of 1. */
export function normalized(samples: Float32Array): Float32Array {
  let peak = 0;
  for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
  return peak > SILENCE ? samples.map((sample) => sample / peak) : samples;
}
