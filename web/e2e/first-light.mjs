// Drives the interface in a real browser, from logging in to a downloaded pcapng.
//
//   BASE_URL=http://127.0.0.1:8642 LOGIN_URL='http://127.0.0.1:8642/#login=CODE' \
//   OUT_DIR=/tmp/shots LANGUAGE=en node e2e/first-light.mjs
//
// LOGIN_USER and LOGIN_PASSWORD stand in for LOGIN_URL. BROWSER names another Chromium. The server
// must record at least one interface with some traffic on it. Exits 1 when a step failed.

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const env = (name, fallback = "") => process.env[name] ?? fallback;
const BASE_URL = env("BASE_URL", "http://127.0.0.1:8650");
const LOGIN_URL = env("LOGIN_URL");
const OUT_DIR = env("OUT_DIR", "/tmp/first-light");
const LANGUAGE = env("LANGUAGE", "en");
const REASON = "first light <b>&</b> <img src=x onerror=alert(1)> $(touch x) ../x \u202e最初の光";
/** Its characters that would reorder the page are spelled out. */
const SHOWN = REASON.replace("\u202e", "[U+202E]");
const PCAPNG_MAGIC = 0x0a0d0d0a;
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

mkdirSync(OUT_DIR, { recursive: true });
const browser = await chromium.launch({ executablePath: env("BROWSER", "/usr/bin/chromium"), headless: true, args: FLAGS });
const context = await browser.newContext({
  viewport: { width: 1440, height: 900 },
  locale: LANGUAGE === "ja" ? "ja-JP" : "en-GB",
  acceptDownloads: true,
});
const page = await context.newPage();
page.setDefaultTimeout(15_000);
const byId = (id) => page.getByTestId(id);

// Refusals this script provokes: the browser notes each on the console.
const EXPECTED = [
  { status: 401, path: "/api/v1/session" },
  { status: 400, path: "/pcap" },
];
const complaints = [];
page.on("pageerror", (error) => complaints.push(`page error: ${error.message}`));
page.on("console", (message) => {
  if (message.type() !== "error" && message.type() !== "warning") return;
  const text = message.text();
  const from = message.location().url ?? "";
  const expected = EXPECTED.some(({ status, path }) => text.includes(`status of ${status}`) && from.includes(path));
  if (!expected) complaints.push(`console ${message.type()}: ${text} (${from})`);
});
await page.addInitScript(() => {
  globalThis.violations = [];
  document.addEventListener("securitypolicyviolation", (event) => {
    globalThis.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
  });
});
page.on("dialog", (dialog) => {
  complaints.push(`a script opened a dialog: ${dialog.message()}`);
  void dialog.dismiss();
});

let passed = 0;
let failed = 0;
const skipped = [];

async function step(name, action) {
  if (failed > 0 && action.needsEarlier !== false) {
    skipped.push(name);
    return;
  }
  try {
    const note = await action();
    passed += 1;
    console.log(`ok    ${name}${note ? `: ${note}` : ""}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}: ${error instanceof Error ? error.message.split("\n").slice(0, 4).join(" | ") : error}`);
    await shot("failed");
  }
}

const always = (action) => Object.assign(action, { needsEarlier: false });

function check(condition, message) {
  if (!condition) throw new Error(message);
}

async function shot(name) {
  await page.screenshot({ path: join(OUT_DIR, `${name}-${LANGUAGE}.png`), fullPage: true }).catch(() => {});
}

/** What sticks out of the viewport sideways; empty when nothing does. */
function overflow() {
  return page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    return [...document.querySelectorAll("body *")]
      .filter((element) => element.getBoundingClientRect().right > width + 1)
      .map((element) => `${element.tagName.toLowerCase()}.${element.getAttribute("class") ?? ""} ${(element.textContent ?? "").slice(0, 40)}`)
      .slice(0, 5);
  });
}

/** Text that is cut off by a box that neither scrolls nor says so. */
function clipped() {
  return page.evaluate(() =>
    [...document.querySelectorAll("main *, header *, footer *")]
      .filter((element) => {
        const style = getComputedStyle(element);
        return (
          element.childElementCount === 0 &&
          (element.textContent ?? "").trim() !== "" &&
          style.display !== "inline" &&
          !element.closest(".offscreen, .uplot, thead, select, textarea, input") &&
          element.scrollWidth > element.clientWidth + 2 &&
          style.overflowX === "visible"
        );
      })
      .map((element) => (element.textContent ?? "").slice(0, 40))
      .slice(0, 5),
  );
}

async function login() {
  if (LOGIN_URL !== "") {
    await page.goto(LOGIN_URL);
  } else {
    await page.goto(BASE_URL);
    await byId("login-user").fill(env("LOGIN_USER"));
    await byId("login-password").fill(env("LOGIN_PASSWORD"));
    await byId("login-submit").click();
  }
  await byId("health").waitFor();
  check(!page.url().includes("login="), "the one-time code is still in the address");
  return LOGIN_URL === "" ? "password" : "one-time link";
}

await step("log in", login);

await step(`the page speaks ${LANGUAGE}`, async () => {
  await byId(`language-${LANGUAGE}`).click();
  await page.waitForFunction((wanted) => document.documentElement.lang === wanted, LANGUAGE);
  const word = LANGUAGE === "ja" ? "概要" : "Overview";
  await page.getByRole("heading", { level: 1, name: word }).waitFor();
});

await step("interfaces are shown", async () => {
  await byId("interface-card").first().waitFor();
  const cards = await byId("interface-card").evaluateAll((all) => all.map((one) => `${one.dataset.interface} ${one.dataset.state}`));
  check(cards.some((card) => card.endsWith(" running")), `no interface is running: ${cards.join(", ")}`);
  return cards.join(", ");
});

await step("status arrives by itself", async () => {
  await page.waitForFunction(() => {
    const points = document.querySelector(".sparkline .line")?.getAttribute("points") ?? "";
    return points.split(" ").length >= 3;
  });
  await shot("overview-wide");
});

let id = "";

await step("freeze by the button", async () => {
  await byId("freeze-open").click();
  await byId("freeze-before").fill("30s");
  await byId("freeze-after").fill("2s");
  await byId("freeze-reason").fill(REASON);
  await shot("freeze-wide");
  await byId("freeze-submit").click();
  await byId("incident").waitFor();
  id = (await byId("incident").getAttribute("data-id")) ?? "";
  check(id !== "", "the incident page has no id");
  return id;
});

await step("the reason is shown as text", async () => {
  await page.getByText(SHOWN).first().waitFor();
  check((await page.locator("main b, main img").count()) === 0, "the reason was taken for HTML");
});

await step("the incident is sealed", async () => {
  await page.locator('[data-testid=incident-state][data-state=sealed]').waitFor({ timeout: 60_000 });
  return (await byId("completeness").textContent()) ?? "";
});

await step("the packet rate is drawn", async () => {
  await byId("rate-chart").locator("canvas").waitFor();
});

await step("flows are listed", async () => {
  await byId("flow-row").first().waitFor({ timeout: 60_000 });
  const count = await byId("flow-row").count();
  await shot("incident-wide");
  return `${count} rows, ${(await byId("flow-count").textContent()) ?? ""}`;
});

await step("a flow becomes the filter", async () => {
  await byId("flow-pick").first().click();
  const filter = await byId("download-filter").inputValue();
  check(filter !== "", "the filter field stayed empty");
  return filter;
});

await step("a wrong filter is explained in libpcap's words", async () => {
  await byId("download-filter").fill("host and and port");
  await byId("download-pcapng").click();
  await byId("download-error").waitFor();
  const text = (await byId("download-error").textContent()) ?? "";
  check(/syntax error/i.test(text), `not libpcap's words: ${text}`);
  await shot("bad-filter-wide");
  return text;
});

await step("a pcapng is downloaded", async () => {
  await byId("download-filter").fill("");
  const [download] = await Promise.all([page.waitForEvent("download", { timeout: 60_000 }), byId("download-pcapng").click()]);
  const path = join(OUT_DIR, download.suggestedFilename());
  await download.saveAs(path);
  const bytes = readFileSync(path);
  check(bytes.length > 28, `only ${bytes.length} bytes`);
  check(bytes.readUInt32LE(0) === PCAPNG_MAGIC, `begins with ${bytes.subarray(0, 4).toString("hex")}`);
  return `${path}, ${bytes.length} bytes`;
});

await step("the incident is in the list", async () => {
  await byId("nav-incidents").click();
  await page.locator(`[data-testid=incident-row][data-id="${id}"][data-state=sealed]`).waitFor();
  await shot("incidents-wide");
});

await step("nothing sticks out at 360 px", async () => {
  await page.setViewportSize({ width: 360, height: 760 });
  const places = [
    ["overview", "#/", "interface-card"],
    ["incidents", "#/incidents", "incident-row"],
    ["incident", `#/incidents/${id}`, "flow-row"],
  ];
  for (const [name, hash, sign] of places) {
    await page.evaluate((to) => { location.hash = to; }, hash);
    await byId(sign).first().waitFor();
    const wide = [...(await overflow()), ...(await clipped())];
    check(wide.length === 0, `${name}: ${wide.join(" / ")}`);
    await shot(`${name}-narrow`);
  }
  await page.evaluate(() => { location.hash = "#/"; });
  await byId("freeze-open").click();
  await byId("freeze-dialog").waitFor();
  check((await overflow()).length === 0, "the freeze dialog is wider than the page");
  await shot("freeze-narrow");
  await page.keyboard.press("Escape");
});

await step("log out", async () => {
  await page.setViewportSize({ width: 1440, height: 900 });
  await byId("logout").click();
  await byId("login-submit").waitFor();
  await shot("login-wide");
});

await step("the browser has nothing to complain of", always(async () => {
  const violations = await page.evaluate(() => globalThis.violations);
  const all = [...complaints, ...violations.map((one) => `policy violation: ${one}`)];
  check(all.length === 0, all.join(" / "));
}));

await browser.close();
for (const name of skipped) console.log(`--    ${name}: not tried`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
