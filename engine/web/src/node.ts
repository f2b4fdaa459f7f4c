/** Bundles on the disk, for Node and Electron. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { BundleError } from "./errors.js";
import type { Read } from "./graph.js";

/** A reader of a bundle in a folder. */
export function folder(path: string): Read {
  return async (name) => {
    if (name.startsWith("/") || name.includes("\\") || name.split("/").includes("..")) {
      throw new BundleError(`unsafe path ${name}; expected one inside the bundle`);
    }
    try {
      return new Uint8Array(await readFile(join(path, name)));
    } catch (error) {
      throw new BundleError(`${name} cannot be read: ${String(error)}; expected a bundle in ${path}`);
    }
  };
}
