/** Latents to audio, through two or three graphs: the first runs over the whole clip, the others run over tiles. */
import { frames, joined, type Signal } from "./array.js";
import type { Graph } from "./graph.js";
import type { Segment } from "./manifest.js";

/** Latents whose audio is yielded together. */
const PIECE = 32;

async function run(graph: Graph, signal: Signal): Promise<Signal> {
  const [output] = await graph.run({ [graph.input]: { data: signal.data, dims: [1, signal.channels, signal.frames] } });
  const [, channels, length] = output!.dims;
  return { data: output!.data, channels: channels!, frames: length! };
}

/** A signal of which parts are computed on demand. From call to call `start` and `stop` may only grow. */
type Part = (start: number, stop: number) => Promise<Signal>;

/**
 * The output of a graph, tile by tile. Every tile is made once, from all frames of the input that influence it.
 *
 * @param source The graph's input.
 * @param rate Frames of its output for one latent.
 * @param limit Frames of its output that are needed in all.
 */
function tiled(source: Part, graph: Graph, segment: Segment, rate: number, limit: number): Part {
  const [upsampling, length] = [rate / segment.rate, segment.tile * rate];
  const tiles: Signal[] = [];
  let dropped = 0;
  async function tile(start: number): Promise<Signal> {
    const stop = Math.min(start + length, limit);
    const first = Math.max(0, Math.floor(start / upsampling) - segment.context);
    const input = await source(first, Math.ceil(stop / upsampling) + segment.context);
    return frames(await run(graph, input), start - first * upsampling, stop - first * upsampling);
  }
  return async (start, stop) => {
    const end = Math.min(stop, limit);
    while ((dropped + tiles.length) * length < end) tiles.push(await tile((dropped + tiles.length) * length));
    const passed = Math.min(Math.floor(start / length) - dropped, tiles.length);
    tiles.splice(0, passed);
    dropped += passed;
    const last = Math.ceil(end / length) - dropped;
    return frames(joined(tiles.slice(0, last)), start - dropped * length, end - dropped * length);
  };
}

/**
 * Decode latents piece by piece.
 *
 * @param segments How each graph is run.
 * @param ratio Audio frames of one latent.
 * @param wanted Audio frames; what follows them is not decoded.
 */
export async function* decode(
  graphs: readonly Graph[],
  segments: readonly Segment[],
  ratio: number,
  latents: Signal,
  wanted: number,
): AsyncGenerator<Signal> {
  const rates = [...segments.map((segment) => segment.rate), ratio];
  const limits = [wanted];
  for (let i = segments.length - 1; i > 1; i--) {
    limits.unshift(Math.ceil((limits[0]! * rates[i]!) / rates[i + 1]!) + segments[i]!.context);
  }
  const features = await run(graphs[0]!, latents);
  let part: Part = async (start, stop) => frames(features, start, stop);
  for (let i = 1; i < segments.length; i++) part = tiled(part, graphs[i]!, segments[i]!, rates[i + 1]!, limits[i - 1]!);
  for (let start = 0; start < wanted; start += PIECE * ratio) yield part(start, Math.min(start + PIECE * ratio, wanted));
}
