/** Bundles on a web server. */
import { BundleError } from "./errors.js";
import type { Read } from "./graph.js";

/** Called as bytes arrive, with the number of those that came since the last call. */
export type Arrived = (path: string, bytes: number) => void;

/**
 * A reader of a bundle on a web server.
 *
 * @param address Of its folder, absolute or relative to the page.
 */
export function fetched(address: string | URL, arrived?: Arrived): Read {
  const folder = String(address).replace(/\/*$/, "/");
  return async (path) => {
    const response = await fetch(folder + path);
    if (!response.ok || response.body === null) throw new BundleError(`${folder}${path} cannot be fetched: status ${response.status}`);
    const parts: Uint8Array[] = [];
    let length = 0;
    const reader = response.body.getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      parts.push(next.value);
      length += next.value.length;
      arrived?.(path, next.value.length);
    }
    const bytes = new Uint8Array(length);
    let place = 0;
    for (const part of parts) {
      bytes.set(part, place);
      place += part.length;
    }
    return bytes;
  };
}
