// A real Chromium, watched: every console error, uncaught exception and refused load is kept.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, request } from "playwright-core";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export function findChromium() {
  const places = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
  return places.find((place) => place !== undefined && existsSync(place));
}

/**
 * Opens a fresh profile.
 *
 * @param {{ dark: boolean, width: number }} look
 */
export async function openBrowser(executablePath, look) {
  const folder = mkdtempSync(join(tmpdir(), "wicketgate-pages-"));
  const context = await chromium.launchPersistentContext(folder, {
    executablePath,
    args: FLAGS,
    viewport: { width: look.width, height: 900 },
    colorScheme: look.dark ? "dark" : "light",
    reducedMotion: "reduce",
    ignoreHTTPSErrors: true,
    acceptDownloads: true,
  });
  const faults = [];
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("pageerror", (error) => faults.push(`uncaught: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "warning") return;
    // Answers of the API that are errors are part of the stories; the browser notes each of them.
    if (message.text().startsWith("Failed to load resource") && message.location().url.includes("/api/")) return;
    faults.push(`console: ${message.text()}`);
  });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      console.error(`policy violation: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
    });
  });
  const close = async () => {
    await context.close();
    rmSync(folder, { recursive: true, force: true });
  };
  return { page, faults, close };
}

/** Does something with the certificate store of the browser whose home this is. */
function store(home, program, ...args) {
  const database = join(home, ".pki/nssdb");
  mkdirSync(database, { recursive: true });
  const { status, stderr } = spawnSync(program, ["-d", `sql:${database}`, ...args], { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program}: ${stderr}`);
}

/** Makes the store, with one authority in it. */
function trust(home, authority) {
  store(home, "certutil", "-N", "--empty-password");
  store(home, "certutil", "-A", "-n", "local", "-t", "C,,", "-i", authority);
}

/** Puts a certificate into the store, and what a person would say into the profile: that it is for this origin. */
function give(home, { file, password, origin }) {
  store(home, "pk12util", "-i", file, "-W", password, "-K", "");
  const folder = join(home, "profile/Default");
  mkdirSync(folder, { recursive: true });
  const exceptions = { auto_select_certificate: { [`${origin},*`]: { setting: { filters: [{}] } } } };
  writeFileSync(join(folder, "Preferences"), JSON.stringify({ profile: { content_settings: { exceptions } } }));
}

/**
 * What `act` returns, done in a browser that trusts the given authority and ignores nothing, with the
 * faults that the browser saw.
 *
 * @param {{ device?: { file: string, password: string, origin: string }, flags?: string[] }} more A certificate of
 *   its own (PKCS#12) with the origin that it is shown to, and how else to start it.
 */
export async function withTrust(authority, act, { device, flags = [] } = {}) {
  const home = mkdtempSync(join(tmpdir(), "wicketgate-browser-"));
  const faults = [];
  let context;
  try {
    trust(home, authority);
    if (device !== undefined) give(home, device);
    context = await chromium.launchPersistentContext(join(home, "profile"), {
      executablePath: findChromium(),
      args: [...FLAGS, ...flags],
      env: { ...process.env, HOME: home, XDG_CONFIG_HOME: home },
      acceptDownloads: true,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    page.on("pageerror", (error) => faults.push(`uncaught: ${error.message}`));
    page.on("console", (message) => {
      // Asking for a session that is not there yet is part of the page's start.
      if (message.type() === "error" && !message.location().url.includes("/api/")) faults.push(message.text());
    });
    return { ...(await act(page)), faults };
  } finally {
    await context?.close();
    rmSync(home, { recursive: true, force: true });
  }
}

/** Runs axe-core on what is shown; returns one line a violation. */
export async function runAxe(page) {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() =>
    window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
  );
  return violations.flatMap(({ id, help, nodes }) => nodes.map(({ target, failureSummary }) => `axe ${id}: ${help} at ${target.join(" ")} ${failureSummary.replaceAll("\n", " ")}`));
}

/** Makes a person and an invitation on a running server; says where the link leads and what it holds. */
export async function invite(base, token) {
  const extraHTTPHeaders = { Authorization: `Bearer ${token}` };
  const api = await request.newContext({ ignoreHTTPSErrors: true, extraHTTPHeaders });
  const post = async (path, data) => {
    const answer = await api.post(`${base}/api/v1${path}`, { data });
    if (!answer.ok()) throw new Error(`${path}: ${answer.status()} ${await answer.text()}`);
    return answer.json();
  };
  const email = `cleo-${Date.now()}-${Math.floor(Math.random() * 1e6)}@example.org`;
  const person = await post("/people", { name: "Cleo Martín", email, role: "member", groups: [] });
  const { link } = await post("/invitations", { person_id: person.id, device_name: "Cleo's phone", send_mail: false, expires_in_hours: 1 });
  await api.dispose();
  const { origin, hash } = new URL(link);
  return { portal: origin, invitationToken: hash.split("/").pop() };
}
