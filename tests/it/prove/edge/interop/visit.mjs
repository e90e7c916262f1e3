// Visits the gate with Node's own clients, over HTTP/1.1 and HTTP/2, with a certificate and without. Prints one line of
// JSON: what came back each time.
//
//   node visit.mjs '{"url": "https://localhost:443/", "authority": "…", "certificate": "…", "key": "…"}'
import { readFileSync } from "node:fs";
import { connect } from "node:http2";
import { request } from "node:https";

const wish = JSON.parse(process.argv[2]);
const read = (name) => readFileSync(wish[name]);
const tls = (known) => ({
  ca: read("authority"),
  ...(known ? { cert: read("certificate"), key: read("key") } : {}),
});

async function text(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

function overHttp1(known, method, body) {
  return new Promise((resolve, reject) => {
    const options = { ...tls(known), method, agent: false, headers: { "content-length": body.length } };
    const asked = request(wish.url, options, (answer) => {
      text(answer).then((body) => resolve({ http: `HTTP/${answer.httpVersion}`, known, status: answer.statusCode, body }), reject);
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

async function overHttp2(known, method, body) {
  const session = connect(wish.url, tls(known));
  try {
    return await new Promise((resolve, reject) => {
      session.on("error", reject);
      const stream = session.request({ ":method": method, ":path": new URL(wish.url).pathname, "content-length": body.length }, { endStream: false });
      let status;
      stream.on("response", (headers) => (status = headers[":status"]));
      stream.on("error", reject);
      text(stream).then((body) => resolve({ http: `${session.alpnProtocol}`, known, status, body }), reject);
      stream.end(body);
    });
  } finally {
    session.destroy();
  }
}

const visits = [];
for (const over of [overHttp1, overHttp2]) {
  for (const known of [true, false]) {
    visits.push(await over(known, "GET", Buffer.alloc(0)));
    visits.push(await over(known, "POST", Buffer.alloc(1000, "x")));
  }
}
console.log(JSON.stringify({ visits }));
