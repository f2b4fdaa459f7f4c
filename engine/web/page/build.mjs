// Makes a folder ready for any static host: `npm run page [-- BUNDLE]`.
import { build } from "esbuild";
import { copyFile, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const page = dirname(fileURLToPath(import.meta.url));
const bundle = process.argv[2] ?? join(page, "../../sao_onnx/bundles/sao-tiny");
const site = join(page, "../site");
const runtime = join(page, "../node_modules/onnxruntime-web/dist");
const RUNTIME = ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

const size = async (...parts) => (await stat(join(...parts))).size;

await rm(site, { recursive: true, force: true });
await mkdir(join(site, "model"), { recursive: true });

const manifest = JSON.parse(await readFile(join(bundle, "manifest.json"), "utf-8"));
const held = (precision) => manifest.graphs.some((graph) => graph.precision === precision && graph.role === "dit");
const precision = held("int8") ? "int8" : "fp32";
const graphs = manifest.graphs.filter((graph) => graph.precision === precision);
const files = (chosen) => chosen.flatMap((graph) => [graph.path, ...graph.weights]);
const paths = [manifest.tokenizer, ...files(graphs)];
// Only clips of several windows need the encoder.
const first = [manifest.tokenizer, ...files(graphs.filter((graph) => graph.role !== "encoder"))];
const licences = manifest.files.filter((file) => file.role === "license").map((file) => file.path);
for (const path of ["manifest.json", ...licences, ...paths]) {
  await mkdir(dirname(join(site, "model", path)), { recursive: true });
  await copyFile(join(bundle, path), join(site, "model", path));
}
for (const name of RUNTIME) await copyFile(join(runtime, name), join(site, name));
for (const name of ["index.html", "page.css", "_headers", "NOTICE.txt"]) await copyFile(join(page, name), join(site, name));

const wasmBytes = await size(runtime, RUNTIME[1]);
const sizes = await Promise.all([...new Set(first)].map((path) => size(bundle, path)));
const download = sizes.reduce((sum, each) => sum + each, wasmBytes);
const common = { bundle: true, format: "esm", minify: true, target: "es2022", legalComments: "inline", logLevel: "warning" };
await build({
  ...common,
  entryPoints: [join(page, "worker.ts")],
  outfile: join(site, "worker.js"),
  conditions: ["onnxruntime-web-use-extern-wasm"],
  define: { WASM_BYTES: String(wasmBytes) },
});
await build({ ...common, entryPoints: [join(page, "page.ts")], outfile: join(site, "page.js"), define: { DOWNLOAD_BYTES: String(download) } });
await writeFile(join(site, "LICENSE"), await readFile(join(page, "../LICENSE")));
console.log(`${site}: the first clip loads ${(download / 1e6).toFixed(1)} MB`);
