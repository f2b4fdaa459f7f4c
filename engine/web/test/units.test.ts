import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { rounded } from "../src/array.js";
import { encoderTile } from "../src/encoder.js";
import { BundleError, RequestError } from "../src/errors.js";
import { parseManifest } from "../src/manifest.js";
import { Noise } from "../src/noise.js";
import { folder } from "../src/node.js";
import { plan } from "../src/plan.js";
import { sigmas } from "../src/schedule.js";
import { verified } from "../src/stages.js";
import { Tokenizer } from "../src/tokenizer.js";
import { int16, wav } from "../src/wav.js";
import { BUNDLES, difference, values, vectors, type BundleVectors, type SharedVectors } from "./vectors.js";

const shared = vectors("shared") as SharedVectors;
const manifest = parseManifest(readFileSync(`${BUNDLES["miniature"]}/manifest.json`, "utf-8"));

test("noise", () => {
  for (const { seed, draws } of shared.noise) {
    const noise = new Noise(seed);
    for (const draw of draws) {
      const count = draw.shape.reduce((product, size) => product * size, 1);
      assert.ok(difference(noise.normal(count), values(draw)) < 1e-6, `seed ${seed}, ${count} values`);
    }
  }
});

test("schedules", () => {
  for (const { steps, start, sigmas: expected } of shared.schedules) {
    assert.ok(difference(sigmas(steps, start), values(expected)) < 1e-7, `${steps} steps from ${start}`);
  }
});

test("samples of 16 bits", () => {
  const found = Array.from(values(shared.samples.values), (sample) => int16(sample) || 0);
  assert.deepEqual(found, shared.samples.int16);
});

test("a WAV file", () => {
  const bytes = wav({ channels: [Float32Array.of(0.5, -1), Float32Array.of(1, 0)], sampleRate: 44100 });
  const view = new DataView(bytes.buffer);
  assert.equal(Buffer.from(bytes.subarray(0, 4)).toString(), "RIFF");
  assert.equal(view.getUint32(4, true), bytes.length - 8);
  assert.deepEqual([44, 46, 48, 50].map((place) => view.getInt16(place, true)), [16384, 32767, -32768, 0]);
});

for (const name of Object.keys(BUNDLES)) {
  test(`tokens of ${name}`, () => {
    const { tokens } = vectors(name) as BundleVectors;
    const { conditioning } = parseManifest(readFileSync(`${BUNDLES[name]}/manifest.json`, "utf-8"));
    const tokenizer = new Tokenizer(readFileSync(`${BUNDLES[name]}/tokenizer.json`, "utf-8"), conditioning.prompt.max_length);
    for (const { prompt, ids } of tokens) assert.deepEqual(tokenizer.encode(prompt).ids, ids, JSON.stringify(prompt));
    assert.ok(tokenizer.encode(tokens.at(-1)!.prompt).cut);
  });
}

test("halves are rounded to even numbers", () => {
  assert.deepEqual([0.5, 1.5, 2.5, 2.4, 2.6].map(rounded), [0, 2, 2, 2, 3]);
});

test("tiles of the encoder", () => {
  assert.deepEqual(encoderTile({ channels: 64, ratio: 2048, margin: 8 }, 256), [56, 8]);
  assert.deepEqual(encoderTile({ channels: 64, ratio: 2048, margin: null }, 256), [256, 0]);
});

test("what cannot be carried out is refused", () => {
  const audio = { channels: [new Float32Array(44100)], sampleRate: 44100 };
  const wrong = [
    { seconds: 3601 },
    { seconds: 5, windowSeconds: 1 },
    { seconds: 5, loop: true },
    { seconds: 5, initAudio: audio },
    { bars: 4 },
    { bpm: 120, bars: 1, seconds: 1 },
    { bpm: 20, bars: 4 },
    { extend: 1 },
    { extend: 0, initAudio: audio },
    { extend: 1, initAudio: audio, loop: true },
    { seconds: 0 },
    { steps: 0 },
    { seed: -1 },
    { seed: 2 ** 32 },
    { cfgScale: Number.NaN },
    { windowSeconds: 9 },
    { numbers: { loudness: 3 } },
    { keep: [[0, 1]] as const },
    { initNoiseLevel: 0.5 },
    { initAudio: { ...audio, sampleRate: 48000 } },
    { initAudio: audio, initNoiseLevel: 0.1 },
    { initAudio: audio, seconds: 1, keep: [[0, 1]] as const },
    { initAudio: audio, seconds: 1, keep: [[0, 2]] as const },
    { initAudio: audio, keep: [[0, 1]] as const, regenerate: [[1, 2]] as const },
  ];
  for (const options of wrong) assert.throws(() => plan(manifest, "drum", options), RequestError, JSON.stringify(options));
});

test("regions to make anew are the others", () => {
  const initAudio = { channels: [new Float32Array(44100)], sampleRate: 44100 };
  const planned = plan(manifest, "drum", { initAudio, seconds: 1, regenerate: [[0.5, 0.75], [0.25, 0.5]] });
  assert.deepEqual(planned.windows[0]!.kept, [[0, 0.25], [0.75, 1]]);
  assert.equal(planned.windows.length, 1);
  assert.equal(planned.sigmas[0], 1);
  assert.equal(planned.normalize, false);
});

test("the tempo is added where a prompt names none", () => {
  assert.equal(plan(manifest, "drum", { bpm: 120, bars: 1 }).prompt, "drum, 120 BPM");
  assert.equal(plan(manifest, "drum at 90bpm", { bpm: 120, bars: 1 }).prompt, "drum at 90bpm");
});

test("a long clip takes windows that overlap, each with the next seed", () => {
  const { windows } = plan(manifest, "drum", { seconds: 9, seed: 3 });
  const { window } = manifest.audio;
  assert.deepEqual(windows.map(({ seed, start }) => [seed, start]), [[3, 0], [4, window / 2], [5, window], [6, 9 * 44100 - window]]);
  assert.equal(windows.at(-1)!.start + windows.at(-1)!.frames, 9 * 44100);
});

test("what is no manifest is refused", () => {
  const wrong: unknown[] = [null, 3, {}, { format: 3 }, { ...manifest, format: 1 }, { ...manifest, decoder: undefined }];
  wrong.push({ ...manifest, latents: { channels: 8, ratio: 0 } }, { ...manifest, audio: { ...manifest.audio, window: "9" } });
  wrong.push({ ...manifest, decoder: manifest.decoder.map((segment) => ({ ...segment, tile: 0 })) }, { ...manifest, decoder: [] });
  wrong.push({ ...manifest, sampling: { ...manifest.sampling, objective: "v" } }, { ...manifest, graphs: [null] });
  for (const value of wrong) assert.throws(() => parseManifest(JSON.stringify(value)), BundleError, JSON.stringify(value));
  assert.throws(() => parseManifest("{"), BundleError);
});

test("files that are not those of the manifest are refused", async () => {
  const entry = manifest.files.find(({ path }) => path === manifest.tokenizer)!;
  const right = new Uint8Array(readFileSync(`${BUNDLES["miniature"]}/${entry.path}`));
  assert.deepEqual(await verified(manifest, async () => right)(entry.path), right);
  const changed = right.map((byte, i) => (i === 9 ? byte ^ 1 : byte));
  for (const wrong of [changed, right.slice(1)]) await assert.rejects(verified(manifest, async () => wrong)(entry.path), BundleError);
  await assert.rejects(verified(manifest, async () => right)("other.json"), BundleError);
  await assert.rejects(folder(BUNDLES["miniature"]!)("../README.md"), BundleError);
  await assert.rejects(folder(BUNDLES["miniature"]!)("nothing"), BundleError);
});
