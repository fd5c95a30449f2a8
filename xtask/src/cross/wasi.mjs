// Runs a WASI program: node wasi.mjs PROGRAM [ARGUMENT]...
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const wasi = new WASI({ version: "preview1", args: process.argv.slice(2), env: process.env, returnOnExit: true });
const program = await WebAssembly.compile(await readFile(process.argv[2]));
// Older C libraries for WASI lack the functions for threads that Rust's library names; there are none: ENOTSUP.
const env = {};
for (const { module, name } of WebAssembly.Module.imports(program)) {
  if (module === "env" && name.startsWith("pthread_")) env[name] = () => (name === "pthread_create" ? 58 : 0);
}
process.exitCode = wasi.start(await WebAssembly.instantiate(program, { ...wasi.getImportObject(), env }));
