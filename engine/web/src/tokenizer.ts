/** Prompts to token ids, equal to those of the Rust library that the Python engine uses. */
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { BundleError } from "./errors.js";

/**
 * Characters that are white space in Rust and not in JavaScript, or the reverse, as others that behave the same: a line
 * separator for U+0085, a character for private use for U+FEFF. No vocabulary has any of the four.
 */
const SAME_AS_RUST: readonly (readonly [RegExp, string])[] = [
  [/\u0085/g, "\u2028"],
  [/\ufeff/g, "\ue000"],
];

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
      this.ends = this.library.encode("").ids.slice(-1);
    } catch (error) {
      throw new BundleError(`tokenizer.json cannot be used: ${String(error)}`);
    }
  }

  /** Ids of a prompt, at most as many as the model reads; `cut` says whether there would have been more. */
  encode(prompt: string): { ids: number[]; cut: boolean } {
    const given = SAME_AS_RUST.reduce((text, [found, same]) => text.replace(found, same), prompt);
    const ids = this.library.encode(given).ids;
    if (ids.length <= this.maxLength) return { ids, cut: false };
    return { ids: [...ids.slice(0, this.maxLength - this.ends.length), ...this.ends], cut: true };
  }
}
