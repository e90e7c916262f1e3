// What an administrator does about backends: looks, takes a target out, and sets what keeps a sick one away.
// Against the mock.
import assert from "node:assert/strict";
import { button, go, heading, signIn } from "./stories.mjs";

/** Console: targets as they are seen and held, and what an upstream does with them. */
export async function upstreams({ page, console: base, administrator, world, look }) {
  await signIn(page, base, administrator);
  await heading(page, "Overview");
  await go(page, "/upstreams", "Upstreams");
  const dialog = page.getByRole("dialog");
  const find = (name) => world.upstreams.find((one) => one.name === name);
  const table = page.getByRole("table", { name: "Targets of home-assistant" });
  const first = table.getByRole("row", { name: "10.0.0.5" });
  await table.getByRole("row", { name: "10.0.0.6" }).getByText("it could not be reached").waitFor();
  find("home-assistant").state[0].in_flight = 19;
  await first.getByText("19 of 20").waitFor();
  await button(page, "Stop updating").click();

  // Others are left: it is done at once, and the focus stays.
  await button(page, "Take out http://10.0.0.5:8123").click();
  await first.getByText("taken out").waitFor();
  assert.match(await page.evaluate(() => document.activeElement?.textContent), /^Put back.*10\.0\.0\.5/);
  assert.deepEqual(find("home-assistant").options.health_check.path, "/api/health", "the other options are kept");
  await button(page, "Let go http://10.0.0.8:8123").click();
  await page.getByText("No target is well.").waitFor();
  await look("console-upstreams-unwell");
  find("home-assistant").version++;
  await button(page, "Put back http://10.0.0.5:8123").click();
  await page.getByText("Someone else changed this").waitFor();
  await look("console-upstreams-conflict");
  await button(page, "Load again").click();
  await page.getByText("Someone else changed this").waitFor({ state: "detached" });
  await button(page, "Put back http://10.0.0.5:8123").click();
  await first.getByText("in use").waitFor();

  // The last one is asked about.
  await button(page, "Take out http://127.0.0.1:3000").click();
  await dialog.getByText("It is the last one.").waitFor();
  await look("console-upstream-take-out");
  await dialog.getByRole("button", { name: "Take out" }).click();
  await page.getByText("Every target is taken out.").waitFor();
  await look("console-upstream-taken-out");
  await button(page, "Put back http://127.0.0.1:3000").click();
  await page.getByText("Every target is taken out.").waitFor({ state: "detached" });

  await button(page, "Edit home-assistant").click();
  const more = dialog.getByText("More: balance");
  await more.click();
  await dialog.getByLabel("Second tries (%)").scrollIntoViewIfNeeded();
  await look("console-upstream-edit");
  await dialog.getByLabel("Path that is asked for").fill("health");
  await more.click();
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.getByText("This must start with /").waitFor();
  await look("console-upstream-options-invalid");
  await dialog.getByLabel("Path that is asked for").fill("/ready");
  // What only the browser finds wrong is shown, too.
  await dialog.getByLabel("Failures in a row").fill("0");
  await more.click();
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.waitForFunction(() => document.activeElement?.getAttribute("type") === "number");
  await dialog.getByLabel("Failures in a row").fill("7");
  await dialog.getByLabel("At each target").fill("");
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.getByText("home-assistant was saved.").waitFor();
  const { failures_to_open, max_in_flight, health_check, forced } = find("home-assistant").options;
  assert.deepEqual([failures_to_open, max_in_flight, health_check.path, forced.length], [7, undefined, "/ready", 1]);
  await page.getByText("Checked every 5 s at /ready").waitFor();
}
