// Serves the built pages and an API made of fixtures, so that every page can be looked at without the
// real server. `node dev/mock-server.mjs [portal-port] [console-port]`; 0 chooses a free port.
// Sends the very headers that the real server sends.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { answer } from "./mock/api.mjs";
import { makeWorld } from "./mock/world.mjs";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));

/** What the pages are built for: nothing inline, nothing foreign, no HTML from strings. */
export const CSP = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "font-src 'self'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types svelte-trusted-html",
].join("; ");

const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript", css: "text/css", svg: "image/svg+xml" };

async function serveFile(entry, path, response) {
  const name = path === "/" ? "/index.html" : path;
  if (!/^\/(index\.html|assets\/[\w.-]+)$/.test(name)) {
    response.writeHead(404).end();
    return;
  }
  try {
    const body = await readFile(`${DIST}${entry}${name}`);
    response.writeHead(200, {
      "Content-Type": TYPES[name.split(".").pop()] ?? "application/octet-stream",
      "Content-Security-Policy": CSP,
      "Referrer-Policy": "no-referrer",
      "X-Content-Type-Options": "nosniff",
      "Cache-Control": name === "/index.html" ? "no-store" : "public, max-age=31536000, immutable",
    });
    response.end(body);
  } catch {
    response.writeHead(404).end();
  }
}

function listen(entry, world, port) {
  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://localhost");
    const done = url.pathname.startsWith("/api/") ? answer(world, entry, request, response, url) : serveFile(entry, url.pathname, response);
    done.catch((error) => {
      console.error(error);
      response.writeHead(500).end();
    });
  });
  return new Promise((resolve) => {
    server.listen(port, "localhost", () => resolve({ server, url: `http://localhost:${server.address().port}` }));
  });
}

/** Starts both listeners over one world of fixtures. */
export async function start(portalPort = 0, consolePort = 0) {
  const world = makeWorld();
  const portal = await listen("portal", world, portalPort);
  const console_ = await listen("console", world, consolePort);
  world.doorUrl = portal.url;
  const stop = () => [portal, console_].forEach(({ server }) => (server.closeAllConnections(), server.close()));
  return { portal: portal.url, console: console_.url, world, stop };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [portalPort = 8480, consolePort = 8481] = process.argv.slice(2).map(Number);
  const running = await start(portalPort, consolePort);
  console.log(`portal  ${running.portal}  (invitation: ${running.portal}/#/invitation/${running.world.invitationToken})`);
  console.log(`console ${running.console}  (setup: ${running.console}/#/setup/${running.world.setupToken})`);
  console.log("sign in as anna@example.org (administrator) or ben@example.org (member), password “wicket gate mock”");
}
