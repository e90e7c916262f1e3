// What a keeper of the authority does at a running console, in a real browser that trusts the given
// authority: rolls the issuing authority over, archives the old one, and takes a copy of the audit with
// the checkpoint and the key that it is checked by. Prints one line of JSON.
//
//   node tests/keep.mjs '{"console": "https://…", "email": "…", "password": "…", "authority": "authority.pem", "folder": "…"}'
import { join } from "node:path";
import { withTrust } from "./browser.mjs";
import { button, go, heading, signIn } from "./stories.mjs";

const { console: base, email, password, authority, folder } = JSON.parse(process.argv[2]);
const OLD = "client-issuing-g1";
const NEW = "client-issuing-g2";

async function keep(page) {
  const dialog = page.getByRole("dialog");
  const said = (text) => page.getByText(text).first().waitFor();
  const confirm = async (label, then) => {
    await dialog.getByRole("button", { name: label, exact: true }).click();
    await said(then);
    await dialog.waitFor({ state: "detached" });
  };
  const save = async (name, label) => {
    const [download] = await Promise.all([page.waitForEvent("download"), button(page, label).click()]);
    const path = join(folder, name);
    await download.saveAs(path);
    return path;
  };

  await signIn(page, base, { email, password });
  await heading(page, "Overview");
  await go(page, "/authorities", "Authorities");
  await button(page, "Stage the next generation").click();
  await confirm("Stage", `${NEW} is staged`);
  await page.getByRole("link", { name: /Issuing G2$/ }).click();
  await button(page, "Trust…").click();
  await confirm("Trust", `${NEW} is trusted. The edge has it in force.`);
  await button(page, "Let it issue…").click();
  await confirm("Let it issue", `${NEW} is issuing. The edge has it in force.`);

  await go(page, `/authorities/${OLD}`, /Issuing G1$/);
  const dependants = await page.getByRole("status").filter({ hasText: "If it were archived now" }).textContent();
  const list = await save("dependants.csv", "Download as CSV");
  await button(page, "Archive…").click();
  await dialog.getByLabel(`Type ${OLD}`).fill(OLD);
  await confirm("Archive", `${OLD} is archived. The edge has it in force.`);

  await go(page, "/health", "Health");
  await go(page, "/audit", "Audit");
  const checkpoint = await save("checkpoint.json", "Sign and download a checkpoint");
  const key = await save("key.pem", "Download the public keys");
  const copy = await save("audit.jsonl", "Export");
  await said("each follows from the one before");
  const whole = await page.getByText("whole", { exact: true }).count();
  return { dependants: dependants.replaceAll(/\s+/g, " ").trim(), list, checkpoint, key, copy, whole };
}

console.log(JSON.stringify(await withTrust(authority, keep)));
