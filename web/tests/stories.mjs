// What is walked through, page by page. A step says what it does and calls `look(name)` when there
// is something to look at. Stories that need fixtures run only against the mock.
import { spawnSync } from "node:child_process";
import assert from "node:assert/strict";

/** A request as openssl makes it. */
function signingRequest() {
  const args = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=x"];
  return spawnSync("openssl", args, { encoding: "utf8" }).stdout;
}

export const heading = (page, text) => page.getByRole("heading", { level: 1, name: text }).waitFor();
export const button = (page, name) => page.getByRole("button", { name });

export async function signIn(page, url, who) {
  await page.goto(`${url}/`);
  if (who.token !== undefined) {
    await page.getByText("Use an API token instead").click();
    await page.getByLabel("API token", { exact: true }).fill(who.token);
    await button(page, "Use the token").click();
    return;
  }
  await page.getByLabel("E-mail address").fill(who.email);
  await page.getByLabel("Password", { exact: true }).fill(who.password);
  await button(page, "Sign in").click();
}

export async function go(page, path, title) {
  await page.evaluate((hash) => (location.hash = hash), path);
  await heading(page, title);
  // Lists come after the heading.
  await page.waitForFunction(() => !document.querySelector("main")?.textContent?.includes("Loading…"));
  await page.waitForLoadState("networkidle");
}

/** Portal: an invitation, an enrolment, and the files that come out. */
export async function invitation({ page, portal, invitationToken, edge, look }) {
  await page.goto(`${portal}/#/invitation/${invitationToken}`);
  await heading(page, "You are invited");
  assert.ok(!page.url().includes(invitationToken), "the token is still in the address bar");
  await look("portal-invitation");
  await button(page, "Open the invitation").click();
  await heading(page, "Let this device through");
  await look("portal-enrol");
  await button(page, "Make the certificate").click();
  await heading(page, "Your certificate is ready");
  await look("portal-ready");
  const password = await page.locator(".secret code").textContent();
  for (const [name, legacy] of [[/^Download /, []], ["download the other format", ["-legacy"]]]) {
    const [download] = await Promise.all([page.waitForEvent("download"), button(page, name).click()]);
    const args = ["pkcs12", "-in", await download.path(), "-passin", `pass:${password}`, "-noout", ...legacy];
    assert.equal(spawnSync("openssl", args).status, 0, "openssl opens what the page wrote");
    if (edge) assert.equal(statusAtEdge(edge, await download.path(), password), "200", "the edge lets the file through");
  }
  for (const tab of ["iPhone, iPad", "Mac", "Android", "Windows", "curl, scripts"]) {
    await page.getByRole("tab", { name: tab }).click();
    await look(`portal-install-${tab.toLowerCase().replace(/\W+/g, "-")}`);
  }
  await page.getByRole("link", { name: /Set a password/ }).click();
  await heading(page, "Set a password");
  await look("portal-first-password");
  await page.getByLabel("New password").fill("a few words in a row");
  await button(page, "Save password").click();
  await page.getByRole("link", { name: "Go on" }).click();
  await heading(page, "My devices");
  await deviceLife({ page, edge });
  await button(page, "Sign out").click();
  await heading(page, "Sign in");
}

/** What an owner does with a device: another name, a new certificate, and out. */
async function deviceLife({ page, edge }) {
  await button(page, "Rename Cleo's phone").click();
  await page.getByRole("dialog").getByLabel("Name").fill("Cleo's new phone");
  await button(page, "Save").click();
  await page.getByRole("heading", { name: "Cleo's new phone" }).waitFor();
  await page.getByRole("link", { name: "Renew Cleo's new phone" }).click();
  await button(page, "Make the certificate").click();
  await heading(page, "Your certificate is ready");
  const password = await page.locator(".secret code").textContent();
  const [download] = await Promise.all([page.waitForEvent("download"), button(page, /^Download /).click()]);
  const file = await download.path();
  if (edge) assert.equal(statusAtEdge(edge, file, password), "200", "the edge lets the renewed one through");
  await page.getByText("The certificate before it still works until").waitFor();
  await page.getByRole("link", { name: /back to my devices/ }).click();
  await button(page, /Shut out Cleo's new phone/).click();
  await button(page, "Revoke").click();
  await page.getByText(/is shut out\./).waitFor();
  if (edge) assert.equal(statusAtEdge(edge, file, password), "403", "the edge refuses it once it is revoked");
}

/** The status that a protected path answers to whoever presents the file. */
function statusAtEdge(edge, file, password) {
  const args = ["--silent", "--insecure", "--cert-type", "P12", "--cert", `${file}:${password}`, "--output", "/dev/null", "--write-out", "%{http_code}"];
  return spawnSync("curl", [...args, `${edge}/`], { encoding: "utf8" }).stdout;
}

/** Portal: what goes wrong when one signs in, and what one sees afterwards. */
export async function portalPages({ page, portal, member, look }) {
  await signIn(page, portal, { ...member, password: "not the password" });
  await page.getByRole("alert").waitFor();
  await look("portal-sign-in-wrong");
  await signIn(page, portal, { ...member, email: "slow@example.org" });
  await page.getByText("Too many tries").waitFor();
  await look("portal-sign-in-limited");
  await signIn(page, portal, member);
  await go(page, "/", "My devices");
  await look("portal-devices");
  await button(page, "Rename Old ThinkPad").click();
  await page.getByRole("dialog").getByLabel("Name").fill("Attic ThinkPad");
  await button(page, "Save").click();
  await page.getByRole("heading", { name: "Attic ThinkPad" }).waitFor();
  await page.getByText("The certificate before it still works until").waitFor();
  await page.getByText("only an administrator can release it").waitFor();
  await button(page, /Shut out Anna's MacBook/).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("radio", { name: /hold it for now/ }).check();
  await look("portal-hold");
  await dialog.getByRole("button", { name: "Hold" }).click();
  await page.getByText(/is on hold\./).waitFor();
  await look("portal-held");
  await button(page, /Shut out Anna's MacBook/).click();
  assert.equal(await dialog.getByRole("radio", { name: /hold it for now/ }).count(), 0, "what is held is not held again");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await button(page, /Shut out Travel laptop/).click();
  await dialog.waitFor();
  await look("portal-revoke");
  await dialog.getByRole("button", { name: "Revoke" }).click();
  await page.getByText(/is shut out\./).waitFor();
  await page.getByRole("link", { name: /^Renew/ }).first().click();
  await heading(page, "A new certificate for this device");
  await page.getByText("gets a new key").waitFor();
  await look("portal-renew");
  await go(page, "/enrol", "Let this device through");
  await page.getByLabel("Name of this device").fill("taken");
  await button(page, "Make the certificate").click();
  await page.getByText("of this name already").waitFor();
  await look("portal-enrol-refused");
  await go(page, "/password", "Change your password");
  await look("portal-password");
  await page.goto(`${portal}/#/invitation`);
  await heading(page, "You are invited");
  await look("portal-invitation-used");
}

/** Console: the first run. */
export async function setup({ page, console: base, setupToken, setSetupRequired, look }) {
  setSetupRequired(true);
  await page.goto(`${base}/`);
  await heading(page, "Set up Wicketgate");
  await look("console-setup-no-token");
  await page.goto("about:blank");
  await page.goto(`${base}/#/setup/${setupToken}`);
  await page.getByLabel("Your name").fill("Emil Neu");
  await page.getByLabel("E-mail address").fill("emil@example.org");
  await page.getByLabel("Password", { exact: true }).fill("a few words in a row");
  assert.ok(!page.url().includes(setupToken), "the token is still in the address bar");
  await look("console-setup");
  await button(page, "Create the first administrator").click();
  await heading(page, "Overview");
  setSetupRequired(false);
  const menu = button(page, "Menu");
  if (await menu.isVisible()) {
    await menu.click();
    await look("console-menu");
  }
  await button(page, "Sign out").click();
}

const PAGES = [
  ["/", "Overview"],
  ["/alerts", "Alerts"],
  ["/health", "Health"],
  ["/audit", "Audit"],
  ["/jobs", "Jobs"],
  ["/sites", "Sites"],
  ["/routes", "Routes"],
  ["/upstreams", "Upstreams"],
  ["/people", "People"],
  ["/devices", "Devices"],
  ["/certificates", "Certificates"],
  ["/profiles", "Profiles"],
  ["/authorities", "Authorities"],
  ["/tokens", "API tokens"],
  ["/settings", "Settings"],
  ["/nowhere", "No such page"],
];

/** Console: every page of the menu, as it stands. */
export async function consolePages({ page, console: base, administrator, look }) {
  await page.goto(`${base}/`);
  await heading(page, "Sign in to the console");
  await look("console-sign-in");
  await signIn(page, base, administrator);
  await heading(page, "Overview");
  for (const [path, title] of PAGES) {
    await go(page, path, title);
    await look(`console-${title.toLowerCase().replace(/\W+/g, "-")}`);
    const focused = await page.evaluate(() => document.activeElement?.tagName);
    assert.equal(focused, "H1", `${path}: the focus is on the heading`);
  }
}

/** Console: signing in with a token, good and bad. */
export async function consoleToken({ page, console: base, adminToken, look }) {
  await signIn(page, base, { token: "wkt_wrong" });
  await page.getByRole("alert").waitFor();
  await look("console-token-wrong");
  await signIn(page, base, { token: adminToken });
  await heading(page, "Overview");
  await page.getByRole("link", { name: "Settings" }).or(button(page, "Menu")).first().waitFor();
}

/** Console: profiles are tried and explained before anything is saved. */
export async function profiles({ page, console: base, administrator, world, look }) {
  await signIn(page, base, administrator);
  await heading(page, "Overview");
  await go(page, "/profiles", "Profiles");
  const dialog = page.getByRole("dialog");
  await button(page, "Edit device").click();
  await look("console-profile-edit");
  await button(page, "Try on the last thirty days").click();
  await dialog.getByText("Tried on 42 requests").waitFor();
  await look("console-profile-tried");
  await dialog.getByLabel("Lifetime", { exact: true }).fill("2000");
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.getByText("must be 3600").first().waitFor();
  await look("console-profile-invalid");
  await dialog.getByLabel("Lifetime", { exact: true }).fill("30");
  world.profiles.find((one) => one.name === "device").version++;
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.getByText("Someone else changed this").waitFor();
  await dialog.getByRole("button", { name: "Load again" }).click();
  await dialog.waitFor({ state: "detached" });
  await button(page, "Add a profile").click();
  await look("console-profile-add");
  await dialog.getByLabel("Name", { exact: true }).fill("guest");
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.getByText("guest was saved.").waitFor();
  await button(page, "Explain device").click();
  await dialog.getByLabel("Signing request").fill(signingRequest());
  await dialog.getByRole("button", { name: "Explain" }).click();
  await dialog.getByText("It would be refused by").waitFor();
  await look("console-profile-explained");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await button(page, "Versions machine").click();
  await dialog.getByText("Version 2").waitFor();
  await look("console-profile-versions");
}

/** Console: dialogs, messages and conflicts. */
export async function consoleActs({ page, console: base, administrator, world, look }) {
  await signIn(page, base, administrator);
  await heading(page, "Overview");
  const dialog = page.getByRole("dialog");
  const closeDialog = async () => {
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
  };

  await go(page, "/sites", "Sites");
  await button(page, "Edit grafana.example.org").click();
  await look("console-site-edit");
  world.sites.find((site) => site.host === "grafana.example.org").version++;
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.getByText("Someone else changed this").waitFor();
  await look("console-site-conflict");
  // What is edited next is what the server has now.
  const again = page.waitForResponse((answer) => answer.url().includes("/api/v1/sites"));
  await dialog.getByRole("button", { name: "Load again" }).click();
  await dialog.waitFor({ state: "detached" });
  await again;
  await page.waitForLoadState("networkidle");
  await button(page, "Edit grafana.example.org").click();
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.getByText("grafana.example.org was saved.").waitFor();

  await go(page, "/upstreams", "Upstreams");
  await button(page, "Add an upstream").click();
  await page.getByLabel("Name", { exact: true }).fill("wiki");
  await dialog.getByLabel("Targets", { exact: true }).fill("127.0.0.1:9000");
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.getByText("is not an address").waitFor();
  await look("console-upstream-invalid");
  await closeDialog();
  await go(page, "/routes", "Routes");
  await button(page, "Edit home.example.org/").click();
  await dialog.getByText("What the app is told").click();
  await dialog.getByText("Single devices and profiles").click();
  await look("console-route-edit");
  await closeDialog();

  await go(page, "/people", "People");
  await button(page, "Add a person").click();
  await look("console-person-add");
  await closeDialog();
  await button(page, "Invite Ben Ahrens").click();
  await look("console-invite");
  await dialog.getByRole("button", { name: "Make the invitation" }).click();
  await page.getByRole("heading", { name: "Ben Ahrens is invited" }).waitFor();
  await look("console-invited");
  await button(page, "I have it").click();
  await page.getByRole("link", { name: "Anna Grün" }).first().click();
  await heading(page, "Anna Grün");
  await page.waitForLoadState("networkidle");
  await look("console-person");
  await button(page, "Issue from a request").click();
  await look("console-issue");
  await dialog.getByLabel("Name of the device").fill("build host");
  await dialog.getByLabel("Signing request").fill(signingRequest());
  await dialog.getByRole("button", { name: "Issue" }).click();
  await page.getByRole("heading", { name: "build host is known" }).waitFor();
  await look("console-issued");
  await button(page, "Close").click();

  await go(page, "/certificates?state=active&search=Ben%27s", "Certificates");
  await look("console-certificates-search");
  await page.getByRole("link", { name: "Ben's Galaxy" }).first().click();
  await heading(page, "Ben's Galaxy");
  await button(page, "Revoke…").click();
  await dialog.getByRole("radio", { name: /Hold/ }).check();
  await look("console-certificate-hold");
  await dialog.getByRole("button", { name: "Hold" }).click();
  await page.getByText("on hold", { exact: true }).waitFor();
  await look("console-certificate-held");
  await button(page, "Release…").click();
  await look("console-certificate-release");
  await dialog.getByRole("button", { name: "Release" }).click();
  await page.getByText(/The certificate is released/).waitFor();
  await go(page, "/certificates?state=active", "Certificates");
  await page.getByRole("link", { name: "Cleo's desktop" }).first().click();
  await heading(page, "Cleo's desktop");
  await look("console-certificate");
  await button(page, "Revoke…").click();
  await look("console-certificate-revoke");
  await dialog.getByRole("button", { name: "Revoke" }).click();
  await page.getByText(/The certificate is revoked/).waitFor();
  await look("console-certificate-revoked");
  await go(page, "/jobs", "Jobs");
  await button(page, "Runs of publish_crls").click();
  await dialog.waitFor();
  await look("console-job-runs");
  await closeDialog();
  await go(page, "/tokens", "API tokens");
  await button(page, "Create a token").click();
  await dialog.getByLabel("Name").fill("pages");
  await dialog.getByRole("button", { name: "Create" }).click();
  await page.getByRole("heading", { name: "Your token" }).waitFor();
  await look("console-token");
  await button(page, "I have it").click();
}
