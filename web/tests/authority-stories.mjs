// What keepers of the authority walk through: roll-over, the audit's chain, health. Against the mock.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { button, go, heading, signIn } from "./stories.mjs";

/** Console: an issuing authority is rolled over, from the stage to the archive. */
export async function rollover({ page, console: base, administrator, look }) {
  await signIn(page, base, administrator);
  await heading(page, "Overview");
  const dialog = page.getByRole("dialog");
  const take = async (label) => {
    await dialog.getByRole("button", { name: label, exact: true }).click();
    await dialog.waitFor({ state: "detached" });
  };
  await go(page, "/authorities", "Authorities");
  await button(page, "Stage the next generation").click();
  await look("console-authority-stage");
  await dialog.getByRole("radio", { name: "A root" }).check();
  await take("Stage");
  await page.getByText("client-root-g3 is staged").waitFor();
  await go(page, "/authorities/client-issuing-g2", "Orchard House Client Issuing G2");
  await look("console-authority-staged");
  await button(page, "Trust…").click();
  await take("Trust");
  await button(page, "Roll back…").click();
  await take("Roll back");
  await page.waitForFunction(() => document.activeElement?.tagName === "H1");
  await button(page, "Trust…").click();
  await take("Trust");
  await button(page, "Let it issue…").click();
  await look("console-authority-let-issue");
  await take("Let it issue");
  await button(page, "Retire without a successor…").waitFor();

  await go(page, "/authorities/client-issuing-g1", "Orchard House Client Issuing G1");
  await page.getByRole("heading", { name: "Who would break" }).waitFor();
  // How many there are depends on what earlier stories did to the same world.
  const text = await page.getByText(/active certificates of/).textContent();
  const counted = Number(/(\d+) active/.exec(text)?.[1]);
  await look("console-authority-retiring");
  const [download] = await Promise.all([page.waitForEvent("download"), button(page, "Download as CSV").click()]);
  const rows = readFileSync(await download.path(), "utf8").trim().split("\r\n");
  assert.equal(rows[0].split(",")[0], "serial");
  assert.equal(rows.length - 1, counted, "everyone who has an active certificate");
  assert.ok(rows.length > 3);
  await button(page, "Archive…").click();
  await dialog.getByText(`${counted} active certificates would stop passing`).waitFor();
  await dialog.getByLabel("Type client-issuing-g1").fill("client-issuing-g2");
  await dialog.getByRole("button", { name: "Archive", exact: true }).click();
  await dialog.getByText("to say that you mean it").waitFor();
  await look("console-authority-archive");
  await dialog.getByLabel("Type client-issuing-g1").fill("client-issuing-g1");
  await take("Archive");
  await page.getByText("Nothing: its life is over.").waitFor();
  await look("console-authority-archived");

  await go(page, "/authorities/client-root-g2", "Orchard House Client Root G2");
  await look("console-authority-root");
  const [cross] = await Promise.all([page.waitForEvent("download"), button(page, /client-root-g1 vouches for client-root-g2/).click()]);
  assert.equal(cross.suggestedFilename(), "client-root-g2-by-client-root-g1.pem");
  await go(page, "/authorities/nobody-g9", "Authority");
  await page.getByRole("alert").waitFor();
  await look("console-authority-missing");
}

/** Console: how the chain stands, and the copy of it. */
export async function auditChain({ page, console: base, administrator, world, look }) {
  await signIn(page, base, administrator);
  await heading(page, "Overview");
  await go(page, "/audit", "Audit");
  const [download] = await Promise.all([page.waitForEvent("download"), button(page, "Export").click()]);
  await page.getByText(/links, each follows from the one before/).waitFor();
  const text = readFileSync(await download.path(), "utf8");
  const lines = text.trimEnd().split("\n");
  const { end } = JSON.parse(lines.at(-1));
  assert.equal(end.links, world.links.length);
  assert.equal(end.sha256, createHash("sha256").update(text.slice(0, text.lastIndexOf("\n", text.length - 2) + 1)).digest("hex"));
  await page.getByText("How to check an export, without this server").click();
  await look("console-audit-exported");
  await Promise.all([page.waitForEvent("download"), button(page, "Sign and download a checkpoint").click()]);
  await page.getByText(/Checkpoint \d+ is in your downloads/).waitFor();
  await Promise.all([page.waitForEvent("download"), button(page, "Download the public keys").click()]);
  world.links[20].event.actor = "person:nobody";
  world.chainFault = { number: 101, detail: "it does not fit its event and the link before" };
  await Promise.all([page.waitForEvent("download"), button(page, "Export").click()]);
  await page.getByText("Link 21 does not follow").waitFor();
  await page.getByText("The chain is broken at link 101").waitFor();
  await look("console-audit-broken");
}

/** Console: findings, and the quiet page when there are none. */
export async function health({ page, console: base, administrator, world, look }) {
  await signIn(page, base, administrator);
  await heading(page, "Overview");
  await page.getByRole("link", { name: /health findings, 1 critical/ }).click();
  await heading(page, "Health");
  await page.getByRole("link", { name: "client-issuing-g1" }).waitFor();
  world.findings.length = 0;
  await button(page, "Look again").click();
  await page.getByText("All is well.").waitFor();
  await look("console-health-well");
}

/** Console: certificates in another order. */
export async function orders({ page, console: base, administrator, world, look }) {
  await signIn(page, base, administrator);
  await heading(page, "Overview");
  await go(page, "/certificates?state=revoked", "Certificates");
  const order = page.getByLabel("Order");
  assert.deepEqual(await order.locator("option").allTextContents(), ["Revoked last", "Revoked first"]);
  await page.getByLabel("State").selectOption("active");
  await order.selectOption("Ends last");
  await page.waitForURL(/sort=-not_after/);
  const active = world.certificates.filter((one) => one.state === "active");
  const last = active.reduce((a, b) => (b.not_after > a.not_after ? b : a));
  await page.locator("tbody tr").first().getByRole("link", { name: last.device_name }).waitFor();
  await look("console-certificates-ordered");
  await page.getByLabel("Begins with").fill("Ben");
  await page.getByLabel("Begins with").press("Enter");
  await page.getByText("What is found comes by").waitFor();
  assert.equal(await order.count(), 0, "a search of everyone's has no order to choose");
}
