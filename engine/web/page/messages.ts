/** What the page and its worker say to each other. */
import type { Options } from "../src/plan.js";

export type Wish = { readonly type: "make"; readonly prompt: string; readonly options: Options } | { readonly type: "stop" };

export type Answer =
  | { readonly type: "awake" }
  | { readonly type: "progress"; readonly doing: string; readonly fraction: number }
  | { readonly type: "stopped" }
  | { readonly type: "failed"; readonly message: string }
  | {
      readonly type: "clip";
      readonly wav: Uint8Array<ArrayBuffer>;
      readonly seed: number;
      /** The prompt was too long, and was cut. */
      readonly cut: boolean;
      /** Length of the clip. */
      readonly seconds: number;
      /** Seconds that were spent on it, without those for what was downloaded and opened before. */
      readonly took: number;
      readonly loaded: { readonly seconds: number; readonly bytes: number };
      readonly threads: number;
    };
