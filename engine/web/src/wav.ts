/** Clips as WAV files of 16 bits. */
import type { Clip } from "./engine.js";

const HEADER = 44;

/** A sample of 16 bits: clipped, scaled by 32,768, rounded down. */
export function int16(sample: number): number {
  return Math.min(32767, Math.floor(Math.min(1, Math.max(-1, sample)) * 32768));
}

/** The bytes of a WAV file. */
export function wav(clip: Pick<Clip, "channels" | "sampleRate">): Uint8Array<ArrayBuffer> {
  const [count, length] = [clip.channels.length, clip.channels[0]?.length ?? 0];
  const bytes = new Uint8Array(HEADER + 2 * count * length);
  const view = new DataView(bytes.buffer);
  const text = (place: number, letters: string) => bytes.set(new TextEncoder().encode(letters), place);
  text(0, "RIFF");
  view.setUint32(4, bytes.length - 8, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, count, true);
  view.setUint32(24, clip.sampleRate, true);
  view.setUint32(28, clip.sampleRate * count * 2, true);
  view.setUint16(32, count * 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * count * length, true);
  clip.channels.forEach((channel, c) => {
    for (let i = 0; i < length; i++) view.setInt16(HEADER + 2 * (i * count + c), int16(channel[i]!), true);
  });
  return bytes;
}
