/** Text to audio with bundles of sao-onnx. */
export { load, Engine, type Clip, type Event, type LoadOptions } from "./engine.js";
export { BundleError, RequestError, SaoOnnxError } from "./errors.js";
export { fetched, type Arrived } from "./fetched.js";
export type { Read, Runtime } from "./graph.js";
export type { Region } from "./inpainting.js";
export type { Manifest, Precision } from "./manifest.js";
export { Noise } from "./noise.js";
export type { InitialAudio, Options } from "./plan.js";
export type { SamplerName } from "./sampler.js";
export { wav } from "./wav.js";
