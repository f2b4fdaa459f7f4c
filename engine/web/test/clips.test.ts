/** Whole clips against what the Python engine made. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { concatenated } from "../src/array.js";
import { overflows } from "../src/exact.js";
import { load } from "../src/index.js";
import { Noise } from "../src/noise.js";
import { folder } from "../src/node.js";
import type { Options } from "../src/plan.js";
import { BUNDLES, decibels, difference, kept, renamed, runtimes, values, vectors, type BundleVectors, type ClipVector } from "./vectors.js";

const SINGLE_PRECISION = 1e-4;

/** In 8 bits, a value that falls on the other side of a step is a step away, and others follow from it. */
const INT8_DECIBELS = 25;

function options(vector: ClipVector): Options {
  const given = renamed(vector.options);
  if (vector.initial === null) return given;
  const { frames, seed, level } = vector.initial;
  const samples = new Noise(seed).normal(2 * frames).map((value) => value * level);
  return { ...given, initAudio: { channels: [samples.subarray(0, frames), samples.subarray(frames)], sampleRate: 44100 } };
}

for (const [runtimeName, runtime] of await runtimes()) {
  // On which processor it overflows is the runtime's business; that the answer is right shows in the clips.
  test(`${runtimeName}: 8-bit matmuls are tried`, async (context) => {
    const found = await overflows(runtime);
    context.diagnostic(found ? "they overflow here" : "they are exact here");
    if (runtimeName === "onnxruntime-web") assert.equal(found, false);
  });
  for (const [name, path] of Object.entries(BUNDLES)) {
    const { precision, clips } = vectors(name) as BundleVectors;
    const engine = await load(folder(path), runtime, { precision });
    for (const vector of clips) {
      test(`${runtimeName}: ${name}, ${vector.name}`, async (context) => {
        const steps: Float32Array[] = [];
        for await (const event of engine.stream(vector.prompt, options(vector))) {
          if (event.type === "sampled") steps.push(event.latents);
          if (event.type !== "finished") continue;
          assert.equal(event.clip.channels.length, vector.audio.shape[0]);
          assert.equal(event.clip.channels[0]!.length, vector.audio.shape[1]);
          steps.push(concatenated(event.clip.channels));
        }
        assert.equal(steps.length, vector.steps.length + 1);
        [...vector.steps, vector.audio].forEach((written, i) => {
          const [found, expected] = [kept(steps[i]!, written), values(written)];
          const ratio = decibels(found, expected);
          context.diagnostic(`step ${i + 1}: ${difference(found, expected).toExponential(1)}, ${ratio.toFixed(1)} dB`);
          if (precision === "fp32") assert.ok(difference(found, expected) < SINGLE_PRECISION, `step ${i + 1}`);
          else assert.ok(ratio > INT8_DECIBELS, `step ${i + 1}: ${ratio} dB`);
        });
      });
    }
    if (name !== "miniature") continue; // The others cost more, and show no more.
    test(`${runtimeName}: the same seed makes the same clip`, async () => {
      const again = { ...options(clips[0]!), steps: 1 };
      const first = await engine.generate("a drum", again);
      await engine.unload();
      const second = await engine.generate("a drum", again);
      assert.deepEqual(second.channels, first.channels);
      assert.notDeepEqual((await engine.generate("a drum", { ...again, seed: 5 })).channels, first.channels);
    });
  }
}
