// Visits the gate with a real browser, over HTTP/1.1 and HTTP/2, with a certificate and without, and opens a WebSocket.
// The browser trusts the given authority, nothing is ignored, and the certificate comes out of its own store. Prints
// one line of JSON: what came back each time.
//
//   node tests/visit.mjs '{"url": "https://localhost:443/", "authority": "…", "p12": "…", "password": "…"}'
import { withTrust } from "./browser.mjs";

const { url, authority, p12, password } = JSON.parse(process.argv[2]);
const origin = new URL(url).origin;

/** What comes back to a person. */
const look = (known) => async (page) => {
  const answer = await page.goto(url);
  const http = await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
  const body = await page.evaluate(() => document.body.textContent);
  return { visit: { http, known, status: answer.status(), body } };
};

/** The same, and what the server of the socket says of the visitor, once it has sent back all that was said. */
const talk = async (page) => {
  const { visit } = await look(true)(page);
  const socket = await page.evaluate(async (address) => {
    const socket = new WebSocket(address);
    const heard = [];
    let hears = () => {};
    socket.onmessage = ({ data }) => {
      heard.push(data);
      hears();
    };
    const next = async () => {
      while (heard.length === 0) {
        await new Promise((resolve, reject) => {
          hears = resolve;
          socket.onclose = ({ code }) => reject(new Error(`the socket closed: ${code}`));
        });
      }
      return heard.shift();
    };
    const seen = JSON.parse(await next());
    let echoed = 0;
    for (const message of ["hello", "ünï", "x".repeat(200_000)]) {
      socket.send(message);
      if ((await next()) === message) echoed += 1;
    }
    return { seen, echoed };
  }, `${origin.replace("https:", "wss:")}/socket`);
  return { visit, socket };
};

const visits = [];
let socket;
for (const flags of [["--disable-http2"], []]) {
  const told = await withTrust(authority, talk, { device: { file: p12, password, origin }, flags });
  socket = told.socket;
  visits.push(told.visit);
  visits.push((await withTrust(authority, look(false), { flags })).visit);
}
console.log(JSON.stringify({ visits, socket }));
