/** Normal noise from a seed, equal to PyTorch's on the CPU and to the Python engine's. */

const SIZE = 624;
const MIDDLE = 397;
const BLOCK = 16;
const TWO_PI = Math.fround(2 * Math.PI);

/** MT19937 with its classic initialization. */
class MersenneTwister {
  private readonly state = new Uint32Array(SIZE);
  private next = SIZE;

  constructor(seed: number) {
    const state = this.state;
    state[0] = seed >>> 0;
    for (let i = 1; i < SIZE; i++) {
      const before = state[i - 1]!;
      state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
    }
  }

  /** The next output, 32 bits. */
  word(): number {
    if (this.next === SIZE) this.twist();
    let word = this.state[this.next++]!;
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  }

  private twist(): void {
    const state = this.state;
    for (let i = 0; i < SIZE; i++) {
      const joined = (state[i]! & 0x80000000) | (state[(i + 1) % SIZE]! & 0x7fffffff);
      state[i] = state[(i + MIDDLE) % SIZE]! ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }
}

/** A stream of standard normal values. */
export class Noise {
  private readonly words: MersenneTwister;
  private spare: number | undefined;

  /** @param seed 0 to 2³² − 1. */
  constructor(seed: number) {
    this.words = new MersenneTwister(seed);
  }

  /** Draw an array of so many values. Each draw is one array: two draws of 8 are not one of 16. */
  normal(count: number): Float32Array<ArrayBuffer> {
    const values = new Float32Array(count);
    if (count < BLOCK) {
      for (let i = 0; i < count; i++) values[i] = this.single();
      return values;
    }
    this.uniform(values);
    const last = values.subarray(count - BLOCK);
    for (let start = 0; start + BLOCK <= count; start += BLOCK) boxMuller(values.subarray(start, start + BLOCK));
    if (count % BLOCK) {
      this.uniform(last);
      boxMuller(last);
    }
    return values;
  }

  private uniform(values: Float32Array): void {
    for (let i = 0; i < values.length; i++) values[i] = (this.words.word() & 0xffffff) * 2 ** -24;
  }

  private single(): number {
    if (this.spare !== undefined) {
      const value = this.spare;
      this.spare = undefined;
      return value;
    }
    const angle = 2 * Math.PI * this.uniform53();
    const radius = Math.sqrt(-2 * Math.log1p(-this.uniform53()));
    this.spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  private uniform53(): number {
    const high = this.words.word() & 0x1fffff;
    return (high * 2 ** 32 + this.words.word()) * 2 ** -53;
  }
}

/** Turn 16 uniform values into normal ones, in place: eight radii, eight angles; cosines first, then sines. */
function boxMuller(block: Float32Array): void {
  const half = BLOCK / 2;
  for (let i = 0; i < half; i++) {
    const log = Math.fround(Math.log(Math.fround(1 - block[i]!)));
    const radius = Math.fround(Math.sqrt(Math.fround(-2 * log)));
    const angle = Math.fround(TWO_PI * block[i + half]!);
    block[i] = radius * Math.fround(Math.cos(angle));
    block[i + half] = radius * Math.fround(Math.sin(angle));
  }
}
