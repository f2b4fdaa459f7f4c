/** `load` and `Engine`: a request is planned, and the plan is carried out. */
import { fitted, frames, joined, type Signal } from "./array.js";
import { condition, type Conditioning } from "./conditioner.js";
import { decode } from "./decoder.js";
import { network } from "./denoiser.js";
import { encode } from "./encoder.js";
import { SaoOnnxError } from "./errors.js";
import { looped, normalized } from "./finish.js";
import type { Read, Runtime, SessionOptions } from "./graph.js";
import { AUDIO_RAMP, blended, inpainting, LATENT_RAMP, weights } from "./inpainting.js";
import { chosenPrecision, decoderRoles, parseManifest, type Manifest, type Precision, type Role } from "./manifest.js";
import { Noise } from "./noise.js";
import { plan, type Options, type Plan, type Window } from "./plan.js";
import { SAMPLERS, type Predict } from "./sampler.js";
import { addNoise } from "./schedule.js";
import { Stages, verified } from "./stages.js";

/** Generated audio. */
export interface Clip {
  /** Samples of each channel, where 1 is full scale. */
  readonly channels: readonly Float32Array[];
  readonly sampleRate: number;
  /** Makes the clip again. */
  readonly seed: number;
}

/** Which of the windows of a clip it is; most clips have one. */
export interface Place {
  readonly window: number;
  readonly windows: number;
}

/** What a stream yields: for each window one for its prompt, for each step and for each piece of audio; and the clip at the end. */
export type Event =
  | (Place & { readonly type: "conditioned"; /** The prompt was too long, and was cut. */ readonly cut: boolean })
  | (Place & { readonly type: "sampled"; readonly index: number; readonly steps: number; readonly latents: Float32Array })
  | (Place & { readonly type: "decoded"; readonly frames: number; readonly total: number; readonly channels: readonly Float32Array[] })
  | { readonly type: "finished"; readonly clip: Clip };

export interface LoadOptions {
  /** By default int8 where the bundle holds it. */
  readonly precision?: Precision;
  /** Options of every session. */
  readonly session?: SessionOptions;
}

/**
 * Open a bundle.
 *
 * @param read Reads its files: `folder(path)` in Node, `fetched(address)` in browsers.
 * @param runtime `onnxruntime-web` or `onnxruntime-node`.
 */
export async function load(read: Read, runtime: Runtime, options: LoadOptions = {}): Promise<Engine> {
  const manifest = parseManifest(new TextDecoder().decode(await read("manifest.json")));
  const precision = chosenPrecision(manifest, options.precision);
  const session = { logSeverityLevel: 3 as const, ...options.session };
  return new Engine(manifest, precision, new Stages(manifest, precision, verified(manifest, read), runtime, session));
}

export class Engine {
  constructor(
    readonly manifest: Manifest,
    readonly precision: Precision,
    private readonly stages: Stages,
  ) {}

  /** Make a clip. */
  async generate(prompt: string, options: Options = {}): Promise<Clip> {
    for await (const event of this.stream(prompt, options)) if (event.type === "finished") return event.clip;
    throw new SaoOnnxError("nothing was made");
  }

  /** Make a clip step by step. Nothing runs between two events: who stops iterating stops the work. */
  async *stream(prompt: string, options: Options = {}): AsyncGenerator<Event, void> {
    const planned = plan(this.manifest, prompt, options);
    const length = planned.latents * this.manifest.latents.ratio;
    let audio = planned.initial;
    for (const [index, window] of planned.windows.entries()) {
      const initial = audio && fitted(frames(audio, window.start, window.start + length), length);
      const place = { window: index, windows: planned.windows.length };
      const latents = yield* this.sampled(planned, window, initial, place);
      const made = yield* this.decoded(window, latents, initial, place);
      // Of a recording that is not made longer, the clip is what was made of it.
      audio = audio && window.start > 0 ? joined([frames(audio, 0, window.start), made]) : made;
    }
    const samples = planned.normalize ? { ...audio!, data: normalized(audio!.data) } : audio!;
    const clip = { channels: split(samples), sampleRate: this.manifest.audio.sample_rate, seed: planned.windows[0]!.seed };
    yield { type: "finished", clip };
  }

  /**
   * Open all that a clip from words needs. Without it, graphs are opened when they are first used.
   *
   * @param progress Called with the fraction that is open.
   */
  async open(progress?: (fraction: number) => void): Promise<void> {
    const roles: Role[] = ["text_encoder", "number_conditioner", "context", "dit", ...decoderRoles(this.manifest)];
    for (const [i, role] of roles.entries()) {
      await this.stages.graph(role);
      progress?.((i + 1) / roles.length);
    }
    await this.stages.tokenizer();
  }

  /** Let go of the graphs. They are opened again when they are needed. */
  async unload(): Promise<void> {
    await this.stages.release();
  }

  /** Clean latents of a window. */
  private async *sampled(planned: Plan, window: Window, initial: Signal | undefined, place: Place): AsyncGenerator<Event, Signal> {
    const noise = new Noise(window.seed);
    const positive = await this.condition(planned.prompt, window);
    yield { type: "conditioned", cut: positive.cut, ...place };
    const { start, known } = await this.start(planned, initial, noise);
    const predict = await this.network(planned, window, positive, known);
    const steps = planned.sigmas.length - 1;
    let [latents, index] = [start, 0];
    for await (latents of SAMPLERS[planned.sampler](predict, start, planned.sigmas, () => noise.normal(start.length))) {
      yield { type: "sampled", index: index++, steps, latents, ...place };
    }
    return { data: latents, channels: this.manifest.latents.channels, frames: planned.latents };
  }

  /** Latents at the first sigma, and the clean ones that they were made of. The order of the draws matters. */
  private async start(
    planned: Plan,
    initial: Signal | undefined,
    noise: Noise,
  ): Promise<{ start: Float32Array; known: Float32Array | undefined }> {
    const start = noise.normal(this.manifest.latents.channels * planned.latents);
    if (initial === undefined) return { start, known: undefined };
    const known = await encode(await this.stages.graph("encoder"), this.manifest.latents, initial, noise);
    return { start: addNoise(known.data, start, planned.sigmas[0]!), known: known.data };
  }

  private async network(planned: Plan, window: Window, positive: Conditioning, known: Float32Array | undefined): Promise<Predict> {
    const { conditioning, latents, audio } = this.manifest;
    const against = planned.guidance?.negativePrompt;
    const negative = against === undefined ? undefined : await this.condition(against, window);
    const guidance = planned.guidance && { scale: planned.guidance.scale, negative };
    const graphs = { context: await this.stages.graph("context"), dit: await this.stages.graph("dit") };
    const predict = await network(graphs, positive, guidance, conditioning.width, latents.channels);
    if (known === undefined || window.kept === undefined) return predict;
    const rate = audio.sample_rate / latents.ratio;
    return inpainting(predict, known, weights(window.kept, planned.latents, rate, LATENT_RAMP / rate, this.seconds(window)));
  }

  private async condition(prompt: string, window: Window): Promise<Conditioning> {
    const graphs = { text: await this.stages.graph("text_encoder"), numbers: await this.stages.graph("number_conditioner") };
    return condition(this.manifest.conditioning, await this.stages.tokenizer(), graphs, prompt, window.numbers);
  }

  /** Audio of a window, with what is kept of its initial audio in place, and the seam of a loop closed. */
  private async *decoded(window: Window, latents: Signal, initial: Signal | undefined, place: Place): AsyncGenerator<Event, Signal> {
    const { decoder, latents: about, audio } = this.manifest;
    const graphs = await Promise.all(decoderRoles(this.manifest).map((role) => this.stages.graph(role)));
    const count = latents.frames * about.ratio;
    const kept = initial && window.kept && weights(window.kept, count, audio.sample_rate, AUDIO_RAMP, this.seconds(window));
    const pieces: Signal[] = [];
    const total = window.frames + window.tail;
    let start = 0;
    for await (const made of decode(graphs, decoder, about.ratio, latents, total)) {
      const stop = start + made.frames;
      const piece =
        initial && kept ? { ...made, data: blended(frames(initial, start, stop).data, made.data, kept.subarray(start, stop)) } : made;
      pieces.push(piece);
      start = stop;
      yield { type: "decoded", frames: stop, total, channels: split(piece), ...place };
    }
    return looped(joined(pieces), window.frames);
  }

  private seconds(window: Window): number {
    return window.frames / this.manifest.audio.sample_rate;
  }
}

function split(signal: Signal): Float32Array[] {
  return Array.from({ length: signal.channels }, (_, c) => signal.data.slice(c * signal.frames, (c + 1) * signal.frames));
}
