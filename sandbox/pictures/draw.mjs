// Draws the dashboards on a Prometheus, and saves what a browser shows: `node draw.mjs PROMETHEUS MINUTES FOLDER`. With `--check` it draws nothing
// but makes sure that every query of every panel answers. Debian's Chromium does it, and asks nobody but that Prometheus.
import { existsSync, mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { build, preview } from "vite";

const DASHBOARDS = ["overview", "details"];
/** A picture is at most so many pixels high. */
const LONGEST = 1700;
const QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

const checks = process.argv.includes("--check");
const [prometheus, minutes, folder] = process.argv.slice(2).filter((argument) => argument !== "--check");
if (!prometheus || !minutes || !folder) throw new Error("usage: draw.mjs [--check] PROMETHEUS MINUTES FOLDER");
mkdirSync(folder, { recursive: true });

/** Saves the page, in pieces of whole rows if it is long. */
async function save(page, name, tops) {
  const { width, height } = await page.evaluate(() => document.querySelector("#root > div").getBoundingClientRect());
  const cuts = [0];
  tops.push(height);
  tops.forEach((top, at) => at > 0 && top - cuts.at(-1) > LONGEST && cuts.push(tops[at - 1]));
  cuts.push(height);
  for (let at = 1; at < cuts.length; at++) {
    const path = `${folder}/${name}${cuts.length > 2 ? `-${at}` : ""}.png`;
    const [y, end] = cuts.slice(at - 1);
    await page.screenshot({ path, fullPage: true, clip: { x: 0, y, width, height: end - y } });
    console.log(`drawn: ${path}`);
  }
}

const root = fileURLToPath(new URL(".", import.meta.url));
await build({ root, logLevel: "error" });
const site = await preview({ root, logLevel: "error", preview: { host: "127.0.0.1", port: 0 } });
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: QUIET });
try {
  const page = await browser.newPage({ viewport: { width: 1600, height: 800 } });
  // Where Grafana would serve the fonts and icons that its components name.
  await page.route("**/public/**", (route) => {
    const path = new URL(route.request().url()).pathname;
    const weight = { "Inter-Regular.woff2": 400, "Inter-Medium.woff2": 500 }[path.split("/").pop()];
    if (weight) return route.fulfill({ path: `${root}node_modules/@fontsource/inter/files/inter-latin-${weight}-normal.woff2` });
    const icon = path.replace("/public/build/", `${root}node_modules/@grafana/ui/dist/public/`);
    return existsSync(icon) ? route.fulfill({ path: icon }) : route.abort();
  });
  const empty = [];
  for (const dashboard of DASHBOARDS) {
    const query = new URLSearchParams({ dashboard, prometheus, minutes });
    await page.goto(`${site.resolvedUrls.local[0]}?${query}`);
    const told = await page.waitForFunction(() => (window.told?.drawn || window.told?.error ? window.told : undefined), null, { timeout: 60_000 });
    const { error, empty: nothing, tops } = await told.jsonValue();
    if (error) throw new Error(`${dashboard}: ${error}`);
    empty.push(...nothing.map((it) => `${dashboard}: ${it}`));
    if (!checks) await save(page, dashboard, tops);
  }
  if (empty.length) throw new Error(`nothing to draw:\n${empty.join("\n")}`);
  if (checks) console.log("every query of every panel answers");
} finally {
  await browser.close();
  await site.close();
}
