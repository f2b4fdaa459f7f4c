/** Prompts and numbers to the conditioning inputs of the DiT. */
import { concatenated } from "./array.js";
import type { Graph } from "./graph.js";
import type { Conditioning as Config } from "./manifest.js";
import type { Tokenizer } from "./tokenizer.js";

/** Conditioning of one clip. */
export interface Conditioning {
  /** [tokens, width]. Padding is zeros, which the DiT sees. */
  readonly crossAttention: Float32Array;
  readonly globalCondition: Float32Array;
  /** Whether the prompt was longer than what the model reads, and was cut. */
  readonly cut: boolean;
}

/** One token of `width` values for each number, by the name of its conditioner. */
async function embeddedNumbers(
  config: Config,
  graph: Graph,
  numbers: Readonly<Record<string, number>>,
): Promise<Map<string, Float32Array>> {
  const inputs = config.numbers.map(({ id }) => [id, { data: Float32Array.of(numbers[id]!), dims: [1] }] as const);
  const outputs = await graph.run(Object.fromEntries(inputs));
  return new Map(config.numbers.map(({ id }, i) => [id, outputs[i]!.data]));
}

/** Embeddings of a prompt, [max_length, width]. The text encoder sees the real tokens alone; zeros follow. */
async function embeddedPrompt(config: Config, graph: Graph, ids: readonly number[]): Promise<Float32Array> {
  const real = ids.length > 0 ? ids : [config.prompt.pad_id];
  const mask = real.map(() => (ids.length > 0 ? 1 : 0));
  const dims = [1, real.length];
  const [embeddings] = await graph.run({ input_ids: { int64: real, dims }, attention_mask: { int64: mask, dims } });
  const padded = new Float32Array(config.prompt.max_length * config.width);
  if (ids.length > 0) padded.set(embeddings!.data);
  return padded;
}

export async function condition(
  config: Config,
  tokenizer: Tokenizer,
  graphs: { readonly text: Graph; readonly numbers: Graph },
  prompt: string,
  numbers: Readonly<Record<string, number>>,
): Promise<Conditioning> {
  const tokens = await embeddedNumbers(config, graphs.numbers, numbers);
  const global = config.global_condition.map((id) => tokens.get(id)!);
  const { ids, cut } = tokenizer.encode(prompt);
  tokens.set(config.prompt.id, await embeddedPrompt(config, graphs.text, ids));
  return {
    crossAttention: concatenated(config.cross_attention.map((id) => tokens.get(id)!)),
    globalCondition: concatenated(global),
    cut,
  };
}
