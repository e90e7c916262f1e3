// Looks at every page in a real browser: light, dark and on a phone's width. Fails on a violation
// that axe finds, on an error in the console, and on anything the content security policy refuses.
//
//   node tests/pages.mjs [--out FOLDER]                        against the mock, which it starts
//   WICKETGATE_TOKEN=wkt_… node tests/pages.mjs --console URL  against a running server: makes a person
//                                                              and an invitation with that token; with
//                                                              --edge URL, curl shows there what the
//                                                              browser was given
import { existsSync, mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { start } from "../dev/mock-server.mjs";
import { PASSWORD } from "../dev/mock/world.mjs";
import { findChromium, invite, openBrowser, runAxe } from "./browser.mjs";
import * as authority from "./authority-stories.mjs";
import * as everyday from "./stories.mjs";
import * as upstream from "./upstream-stories.mjs";

const stories = { ...everyday, ...authority, ...upstream };
const { values } = parseArgs({
  options: { edge: { type: "string" }, console: { type: "string" }, out: { type: "string" }, only: { type: "string" } },
});
const LOOKS = [
  { name: "light", dark: false, width: 1280 },
  { name: "dark", dark: true, width: 1280 },
  { name: "phone", dark: false, width: 390 },
];

const chromium = findChromium();
if (chromium === undefined) {
  console.log("No Chromium found (set CHROMIUM, or install the package chromium).");
  process.exit(process.env.CI === "true" ? 1 : 0);
}
if (!values.console && !existsSync(fileURLToPath(new URL("../dist/console/index.html", import.meta.url)))) {
  console.log("Build the pages first: npm run build");
  process.exit(1);
}
if (values.out) mkdirSync(values.out, { recursive: true });

/** What the stories need to know about the server they visit. */
async function serve() {
  if (values.console) {
    const token = process.env.WICKETGATE_TOKEN ?? "";
    const invited = await invite(values.console, token);
    return { ...invited, console: values.console, edge: values.edge, administrator: { token }, stories: ["invitation", "consolePages"], stop() {} };
  }
  const mock = await start();
  const { world } = mock;
  return {
    ...mock,
    administrator: { email: "anna@example.org", password: PASSWORD },
    member: { email: "anna@example.org", password: PASSWORD },
    invitationToken: world.invitationToken,
    setupToken: world.setupToken,
    adminToken: world.adminToken,
    setSetupRequired: (required) => (world.setupRequired = required),
    stories: ["invitation", "portalPages", "setup", "consolePages", "consoleToken", "consoleActs", "upstreams", "profiles", "rollover", "auditChain", "health", "orders"],
  };
}

let passed = 0;
const failures = [];

async function tell(name, server, look) {
  const { page, faults, close } = await openBrowser(chromium, look);
  const shoot = async (what) => {
    if (values.out) await page.screenshot({ path: `${values.out}/${what}.${look.name}.png`, fullPage: true });
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    const found = [...faults.splice(0), ...(await runAxe(page)), ...(overflow > 0 ? [`${overflow} px too wide`] : [])];
    if (found.length === 0) passed++;
    for (const fault of found) failures.push(`${what} (${look.name}): ${fault}`);
  };
  try {
    await stories[name]({ ...server, page, look: shoot });
    passed++;
  } catch (error) {
    failures.push(`${name} (${look.name}): ${error.message}`);
    if (values.out) await page.screenshot({ path: `${values.out}/FAILED-${name}.${look.name}.png` });
  }
  for (const fault of faults) failures.push(`${name} (${look.name}), at the end: ${fault}`);
  await close();
}

await Promise.all(
  LOOKS.map(async (look) => {
    const server = await serve();
    for (const name of server.stories.filter((one) => !values.only || one === values.only)) await tell(name, server, look);
    server.stop();
  }),
);
for (const failure of failures) console.log(failure);
console.log(`pages: ${passed} passed, ${failures.length} failed`);
process.exit(failures.length === 0 ? 0 : 1);
