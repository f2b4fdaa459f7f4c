/** Tokenizes what comes on stdin: `{tokenizer, maxLength, prompts}`; the ids go to stdout. For tests/test_web.py. */
import { readFileSync } from "node:fs";
import { Tokenizer } from "../src/tokenizer.js";

const { tokenizer, maxLength, prompts } = JSON.parse(readFileSync(0, "utf-8")) as {
  tokenizer: string;
  maxLength: number;
  prompts: string[];
};
const found = new Tokenizer(readFileSync(tokenizer, "utf-8"), maxLength);
console.log(JSON.stringify(prompts.map((prompt) => found.encode(prompt).ids)));
