/** Audio to latents, in tiles of one length, each with the audio around it that influences its latents. */
import { frames, joined, type Signal } from "./array.js";
import type { Graph } from "./graph.js";
import type { Latents } from "./manifest.js";
import type { Noise } from "./noise.js";

const TILE = 40;

/** Latents of a tile with its margins, and of the margin on each side. */
export function encoderTile(latents: Latents, count: number): [number, number] {
  const margin = latents.margin ?? undefined;
  if (margin === undefined) return [count, 0];
  const [inner, most] = [count - 2 * margin, Math.max(TILE, 4 * margin)];
  return [inner <= most ? count : 2 * margin + Math.ceil(inner / Math.ceil(inner / most)), margin];
}

/** Sample latents of audio: `mean + stdev · noise`. */
export async function encode(graph: Graph, latents: Latents, audio: Signal, noise: Noise): Promise<Signal> {
  const count = Math.floor(audio.frames / latents.ratio);
  const [length, margin] = encoderTile(latents, count);
  const parts: [Signal[], Signal[]] = [[], []];
  for (let made = 0; made < count; ) {
    const first = Math.min(Math.max(0, made - margin), count - length);
    const stop = first + length === count ? count : first + length - margin;
    const around = frames(audio, first * latents.ratio, (first + length) * latents.ratio);
    const outputs = await graph.run({ audio: { data: around.data, dims: [1, around.channels, around.frames] } });
    outputs.forEach(({ data }, i) => {
      parts[i]!.push(frames({ data, channels: latents.channels, frames: length }, made - first, stop - first));
    });
    made = stop;
  }
  const [mean, stdev] = [joined(parts[0]), joined(parts[1])];
  const drawn = noise.normal(mean.data.length);
  const data = mean.data.map((value, i) => value + Math.fround(stdev.data[i]! * drawn[i]!));
  return { ...mean, data };
}
