/** Arrays in C order with the axes [batch, channels, frames]; the batch is 1 unless something else is said. */

export interface Signal {
  readonly data: Float32Array;
  readonly channels: number;
  readonly frames: number;
}

/** Frames `start` to `stop`, fewer where the signal ends. */
export function frames(signal: Signal, start: number, stop: number): Signal {
  const end = Math.min(stop, signal.frames);
  const length = Math.max(0, end - start);
  const data = new Float32Array(signal.channels * length);
  for (let c = 0; c < signal.channels; c++) {
    data.set(signal.data.subarray(c * signal.frames + start, c * signal.frames + start + length), c * length);
  }
  return { data, channels: signal.channels, frames: length };
}

/** Signals one after the other. */
export function joined(parts: readonly Signal[]): Signal {
  const [first] = parts;
  if (first === undefined) throw new RangeError("nothing to join");
  const length = parts.reduce((sum, part) => sum + part.frames, 0);
  const data = new Float32Array(first.channels * length);
  let start = 0;
  for (const part of parts) {
    for (let c = 0; c < part.channels; c++) {
      data.set(part.data.subarray(c * part.frames, (c + 1) * part.frames), c * length + start);
    }
    start += part.frames;
  }
  return { data, channels: first.channels, frames: length };
}

/** Cut to a length, or padded with zeros at the end. */
export function fitted(signal: Signal, length: number): Signal {
  const cut = frames(signal, 0, length);
  const missing = length - cut.frames;
  if (missing === 0) return cut;
  return joined([cut, { data: new Float32Array(cut.channels * missing), channels: cut.channels, frames: missing }]);
}

/** Vectors one after the other. */
export function concatenated(parts: readonly Float32Array[]): Float32Array<ArrayBuffer> {
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let start = 0;
  for (const part of parts) {
    data.set(part, start);
    start += part.length;
  }
  return data;
}

/** Round half to even, as Python does. */
export function rounded(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}
