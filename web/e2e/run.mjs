// Starts wirewitness on the loopback interface in a folder of its own and drives its pages in both
// languages: once with the one-time link it prints, once with a password.
//
//   WIREWITNESS_BIN=../target/release/wirewitness node e2e/run.mjs [OUT_DIR]
//
// Needs root (or CAP_NET_RAW) and Chromium. Exits 1 when a step failed.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const PROGRAM = resolve(process.env["WIREWITNESS_BIN"] ?? "../target/release/wirewitness");
const TEST = join(dirname(fileURLToPath(import.meta.url)), "first-light.mjs");
const USER = "first-light";
const PASSWORD = "only for this test 7315";
const LINK_WITHIN_MS = 30_000;
const STOP_WITHIN_MS = 30_000;

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

const home = mkdtempSync(join(tmpdir(), "wirewitness-ui-"));
// The server may run as another user than the one who made the folder.
chmodSync(home, 0o755);
const out = resolve(process.argv[2] ?? join(home, "out"));
mkdirSync(out, { recursive: true });
const state = join(home, "state");
mkdirSync(state);
const base = `http://127.0.0.1:${await freePort()}`;
const config = join(home, "wirewitness.toml");
writeFileSync(
  config,
  `[capture]
interfaces = ["lo"]
buffer = "8MiB"
[ring]
path = "${state}/ring"
size = "128MiB"
segment = "4MiB"
memory = "32MiB"
[evidence]
path = "${state}/incidents"
quota = "512MiB"
[web]
listen = "${new URL(base).host}"
socket = "${state}/api.sock"
`,
);

const said = [];
const program = spawn(PROGRAM, ["--config", config, "run"], { stdio: ["ignore", "pipe", "pipe"] });
const ended = once(program, "exit");

/** The first line of the program's output that matches. */
function line(pattern) {
  return new Promise((found, failed) => {
    const late = setTimeout(() => failed(new Error(`no login link within ${LINK_WITHIN_MS / 1000} s`)), LINK_WITHIN_MS);
    const done = (action, value) => {
      clearTimeout(late);
      action(value);
    };
    program.once("error", (error) => done(failed, error));
    program.once("exit", (code) => done(failed, new Error(`the program ended with ${code}`)));
    for (const stream of [program.stdout, program.stderr]) {
      createInterface({ input: stream }).on("line", (text) => {
        said.push(text);
        const match = pattern.exec(text);
        if (match) done(found, match[0]);
      });
    }
  });
}

function drive(language, login) {
  console.log(`# ${language}`);
  const env = { ...process.env, BASE_URL: base, OUT_DIR: out, LANGUAGE: language, ...login };
  return spawnSync(process.execPath, [TEST], { stdio: "inherit", env }).status === 0;
}

let good = false;
try {
  const link = await line(/http:\/\/\S+#login=\S+/);
  const added = spawnSync(PROGRAM, ["--config", config, "user", "add", USER, "--role", "analyst"], { input: `${PASSWORD}\n`, encoding: "utf8" });
  if (added.status !== 0) throw new Error(`user add: ${added.stderr}`);
  const first = drive("en", { LOGIN_URL: link });
  const second = drive("ja", { LOGIN_URL: "", LOGIN_USER: USER, LOGIN_PASSWORD: PASSWORD });
  good = first && second;
} catch (error) {
  console.log(`FAIL  start ${PROGRAM}: ${error.message}`);
}

if (program.exitCode === null && program.pid !== undefined) {
  program.kill("SIGTERM");
  const forced = setTimeout(() => program.kill("SIGKILL"), STOP_WITHIN_MS);
  await ended.catch(() => {});
  clearTimeout(forced);
}
if (good) {
  rmSync(home, { recursive: true, force: true });
} else {
  console.log(said.slice(-30).join("\n"));
  console.log(`# kept: ${home}`);
}
process.exitCode = good ? 0 : 1;
