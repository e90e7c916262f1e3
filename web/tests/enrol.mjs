// Enrols a device at a running door as a person would: opens the mailed link in a real browser, makes the
// certificate, and keeps both files and the password. The browser trusts the given authority and nothing
// is ignored. Prints one line of JSON.
//
//   node tests/enrol.mjs '{"link": "https://…", "authority": "authority.pem", "folder": "…"}'
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { findChromium, FLAGS } from "./browser.mjs";

const { link, authority, folder } = JSON.parse(process.argv[2]);
const home = mkdtempSync(join(tmpdir(), "wicketgate-enrol-"));

/** Makes the browser's certificate store, with the one authority in it. */
function trust() {
  const database = join(home, ".pki/nssdb");
  mkdirSync(database, { recursive: true });
  for (const args of [["-N", "--empty-password"], ["-A", "-n", "local", "-t", "C,,", "-i", authority]]) {
    const { status, stderr } = spawnSync("certutil", ["-d", `sql:${database}`, ...args], { encoding: "utf8" });
    if (status !== 0) throw new Error(`certutil: ${stderr}`);
  }
}

async function enrol(page) {
  await page.goto(link);
  const heading = (name) => page.getByRole("heading", { level: 1, name }).waitFor();
  await heading("You are invited");
  const addressBar = page.url();
  await page.getByRole("button", { name: "Open the invitation" }).click();
  await heading("Let this device through");
  await page.getByLabel("Name of this device").fill("Cleo's laptop");
  await page.getByRole("button", { name: "Make the certificate" }).click();
  await heading("Your certificate is ready");
  const password = await page.locator(".secret code").textContent();
  const format = await page.locator("#file-heading ~ .row .small").first().textContent();
  const [first, other] = format.startsWith("modern") ? ["modern", "compat"] : ["compat", "modern"];
  const files = {};
  for (const [name, encoding] of [[/^Download /, first], ["download the other format", other]]) {
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("button", { name }).click(),
    ]);
    files[encoding] = join(folder, `${encoding}.p12`);
    await download.saveAs(files[encoding]);
  }
  const cookies = await page.context().cookies();
  return { files, password, addressBar, cookies: cookies.map(({ name, value }) => ({ name, value })) };
}

const faults = [];
let context;
try {
  trust();
  context = await chromium.launchPersistentContext(join(home, "profile"), {
    executablePath: findChromium(),
    args: FLAGS,
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
  console.log(JSON.stringify({ ...(await enrol(page)), faults }));
} finally {
  await context?.close();
  rmSync(home, { recursive: true, force: true });
}
