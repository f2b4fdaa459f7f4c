/** The diffusion transformer as a function of latents and sigma, with or without guidance. */
import { concatenated } from "./array.js";
import type { Conditioning } from "./conditioner.js";
import type { Graph } from "./graph.js";
import type { Predict } from "./sampler.js";

export interface DenoiserGraphs {
  readonly context: Graph;
  readonly dit: Graph;
}

/** The DiT with conditionings, one for each clip of the batch. Keys and values are computed here, once. */
async function prediction(
  graphs: DenoiserGraphs,
  conditionings: readonly Pick<Conditioning, "crossAttention" | "globalCondition">[],
  width: number,
  channels: number,
): Promise<Predict> {
  const batch = conditionings.length;
  const tokens = conditionings[0]!.crossAttention.length / width;
  const crossAttention = concatenated(conditionings.map((c) => c.crossAttention));
  const global = concatenated(conditionings.map((c) => c.globalCondition));
  const [keys, values] = await graphs.context.run({ cross_attention: { data: crossAttention, dims: [batch, tokens, width] } });
  return async (x, sigma) => {
    const [velocity] = await graphs.dit.run({
      latents: { data: x, dims: [batch, channels, x.length / batch / channels] },
      times: { data: new Float32Array(batch).fill(sigma), dims: [batch] },
      keys: keys!,
      values: values!,
      global_condition: { data: global, dims: [batch, global.length / batch] },
    });
    return velocity!.data;
  };
}

/** Guidance: its scale, and the conditioning that it leads away from; without one, zeros. */
export interface Guidance {
  readonly scale: number;
  readonly negative: Conditioning | undefined;
}

/** The network of a clip. With guidance both predictions are made in a batch of two. */
export async function network(
  graphs: DenoiserGraphs,
  positive: Conditioning,
  guidance: Guidance | undefined,
  width: number,
  channels: number,
): Promise<Predict> {
  if (guidance === undefined) return prediction(graphs, [positive], width, channels);
  const against = guidance.negative?.crossAttention ?? new Float32Array(positive.crossAttention.length);
  const pair = [positive, { crossAttention: against, globalCondition: positive.globalCondition }];
  const both = await prediction(graphs, pair, width, channels);
  const scale = Math.fround(guidance.scale);
  return async (x, sigma) => {
    const made = await both(concatenated([x, x]), sigma);
    const [wanted, unwanted] = [made.subarray(0, x.length), made.subarray(x.length)];
    return wanted.map((value, i) => unwanted[i]! + Math.fround(scale * Math.fround(value - unwanted[i]!)));
  };
}
