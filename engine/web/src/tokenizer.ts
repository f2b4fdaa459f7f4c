/** Prompts to token ids, equal to those of the Rust library that the Python engine uses. */
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { BundleError } from "./errors.js";
import { makeExact } from "./normalizers.js";

export class Tokenizer {
  private readonly library: Library;
  private readonly ends: readonly number[];

  /**
   * @param text Of `tokenizer.json`.
   * @param maxLength Tokens to which a prompt is cut, those at the end included.
   */
  constructor(text: string, private readonly maxLength: number) {
    try {
      this.library = new Library(JSON.parse(text) as object, {});
      makeExact(this.library.normalizer);
      this.ends = this.library.encode("").ids.slice(-1);
    } catch (error) {
      throw new BundleError(`tokenizer.json cannot be used: ${String(error)}`);
    }
  }

  /** Ids of a prompt, at most as many as the model reads; `cut` says whether there would have been more. */
  encode(prompt: string): { ids: number[]; cut: boolean } {
    const ids = this.library.encode(prompt).ids;
    if (ids.length <= this.maxLength) return { ids, cut: false };
    return { ids: [...ids.slice(0, this.maxLength - this.ends.length), ...this.ends], cut: true };
  }
}
