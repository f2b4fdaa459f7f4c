/** Whether a runtime's 8-bit matmuls overflow on this processor, as those for x86 without VNNI do, and what prevents it. */
import type { Runtime, SessionOptions } from "./graph.js";

/** A model of one `MatMulInteger`: a, uint8 [m, k], by b, int8 [k, n], is y, int32 [m, n]. */
const MODEL = "CAg6aAoYCgFhCgFiEgF5Ig1NYXRNdWxJbnRlZ2VyEgdwcm9kdWN0WhUKAWESEAoOCAISCgoDEgFtCgMSAWtaFQoBYhIQCg4IAxIKCgMSAWsKAxIBbmIVCgF5EhAKDggGEgoKAxIBbQoDEgFuQgIQDQ==";

const [ROWS, LENGTH, COLUMNS] = [2, 64, 32];

/** Found by multiplying the largest numbers there are. */
export async function overflows(runtime: Runtime): Promise<boolean> {
  const session = await runtime.InferenceSession.create(Uint8Array.from(atob(MODEL), (letter) => letter.charCodeAt(0)));
  const a = new runtime.Tensor("uint8", new Uint8Array(ROWS * LENGTH).fill(255), [ROWS, LENGTH]);
  const b = new runtime.Tensor("int8", new Int8Array(LENGTH * COLUMNS).fill(127), [LENGTH, COLUMNS]);
  const { y } = await session.run({ a, b });
  await session.release();
  return !(y!.data as Int32Array).every((sum) => sum === 255 * 127 * LENGTH);
}

/** Options of a session whose 8-bit weights are made unsigned when it is opened, so that nothing overflows. */
export function withUnsignedWeights(options: SessionOptions): SessionOptions {
  const extra = options.extra ?? {};
  return { ...options, extra: { ...extra, session: { x64quantprecision: "1", ...(extra["session"] as object | undefined) } } };
}
