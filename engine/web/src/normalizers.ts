/** Steps of a tokenizer that the library in JavaScript carries out in another way than the one in Rust, as Rust does. */
import type { Tokenizer } from "@huggingface/tokenizers";

type Normalizer = NonNullable<Tokenizer["normalizer"]>;

/** `White_Space` of Unicode. JavaScript's differs: U+FEFF is white space there, and U+0085 is not. */
const SPACE = "[\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const LEADING = new RegExp(`^${SPACE}+`, "u");
const TRAILING = new RegExp(`${SPACE}+$`, "u");

/** Change the steps of a normalizer, and those inside it, to exact ones. */
export function makeExact(normalizer: Normalizer | null): void {
  const step = normalizer as (Normalizer & { normalizers?: (Normalizer | null)[] }) | null;
  if (step === null) return;
  const config = step.config as { type: string; strip_left?: boolean; strip_right?: boolean; precompiled_charsmap?: string | null };
  if (config.type === "Sequence") step.normalizers?.forEach(makeExact);
  if (config.type === "Precompiled" && config.precompiled_charsmap) step.normalize = precompiled(config.precompiled_charsmap);
  // Character by character, so that a sigma at the end of a word is like any other.
  if (config.type === "Lowercase") step.normalize = (text: string) => Array.from(text, (letter) => letter.toLowerCase()).join("");
  if (config.type === "Strip") {
    step.normalize = (text: string) => {
      const left = config.strip_left ? text.replace(LEADING, "") : text;
      return config.strip_right ? left.replace(TRAILING, "") : left;
    };
  }
}

/**
 * SentencePiece's table of characters: a double array of four bytes an entry, and texts that end with a zero byte.
 *
 * @param written In base64.
 */
function precompiled(written: string): (text: string) => string {
  const bytes = Uint8Array.from(atob(written), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const size = view.getUint32(0, true);
  const units = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
  const texts = bytes.subarray(4 + size);
  const [encoder, decoder] = [new TextEncoder(), new TextDecoder()];
  const graphemes = new Intl.Segmenter("und", { granularity: "grapheme" });
  const offset = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6);

  /** What the shortest beginning of a text that the table knows stands for: the whole text becomes that. */
  function found(text: string): string | undefined {
    let place = offset(units[0]!);
    for (const byte of encoder.encode(text)) {
      place ^= byte;
      const unit = units[place];
      if (byte === 0 || unit === undefined || ((unit & 0x800000ff) >>> 0) !== byte) return undefined;
      place ^= offset(unit);
      if ((unit >>> 8) & 1) {
        const start = units[place]! & 0x7fffffff;
        return decoder.decode(texts.subarray(start, texts.indexOf(0, start)));
      }
    }
    return undefined;
  }

  function replaced(grapheme: string): string {
    const whole = encoder.encode(grapheme).length < 6 ? found(grapheme) : undefined;
    return whole ?? Array.from(grapheme, (letter) => found(letter) ?? letter).join("");
  }

  return (text) => Array.from(graphemes.segment(text), ({ segment }) => replaced(segment)).join("");
}
