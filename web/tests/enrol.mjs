// Enrols a device at a running door as a person would: opens the mailed link in a real browser, makes the
// certificate, and keeps both files and the password. The browser trusts the given authority and nothing
// is ignored. Prints one line of JSON.
//
//   node tests/enrol.mjs '{"link": "https://…", "authority": "authority.pem", "folder": "…"}'
import { join } from "node:path";
import { withTrust } from "./browser.mjs";

const { link, authority, folder } = JSON.parse(process.argv[2]);

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

console.log(JSON.stringify(await withTrust(authority, enrol)));
