// The API over the fixtures: just enough rules to show every state of every page.
import { randomBytes, randomUUID } from "node:crypto";
import { issue } from "./issue.mjs";
import { PASSWORD, upstreamOptions } from "./world.mjs";

const BASE = "/api/v1";

/** Thrown by a handler; becomes problem+json. */
class Refusal extends Error {
  constructor(status, code, detail, errors = [], headers = {}) {
    super(detail);
    Object.assign(this, { status, code, detail, errors, headers });
  }
}
const invalid = (pointer, detail) => new Refusal(422, "invalid_request", detail, [{ pointer, code: "invalid", detail }]);
const notFound = () => new Refusal(404, "not_found", "There is no such thing here.");

export async function answer(world, entry, request, response, url) {
  const send = (status, body, headers = {}) => {
    response.writeHead(status, { "Content-Type": status >= 400 ? "application/problem+json" : "application/json", "Cache-Control": "no-store", ...headers });
    response.end(body === undefined ? undefined : JSON.stringify(body));
  };
  try {
    const { method } = request;
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    if (method !== "GET") {
      if (!request.headers.authorization && request.headers.origin !== `http://${request.headers.host}`) throw new Refusal(403, "not_allowed", "Wrong origin.");
      if (request.headers["content-type"] !== "application/json") throw new Refusal(400, "invalid_request", "JSON only.");
    }
    const path = url.pathname.slice(BASE.length).split("/").slice(1).map(decodeURIComponent);
    const cookie = /__Host-session=([\w-]+)/.exec(request.headers.cookie ?? "")?.[1];
    const call = { world, entry, method, path, query: url.searchParams, body: text === "" ? {} : JSON.parse(text), headers: request.headers, cookie, session: world.sessions.get(cookie) ?? tokenSession(world, request.headers.authorization) };
    const { status = 200, body, headers } = route(call);
    send(status, body, headers);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const { status, code, detail, errors, headers } = error;
    send(status, { type: "about:blank", title: code.replaceAll("_", " "), status, code, detail, errors }, headers);
  }
}

/** The one token of the fixtures acts as the administrator. */
function tokenSession(world, authorization) {
  if (authorization !== `Bearer ${world.adminToken}`) return undefined;
  const { id, email, name, role } = world.administrator;
  return { id: "token", kind: "token", person: { id, email, name, role }, created_at: world.at(-1), expires_at: world.at(50) };
}

function route(call) {
  const { world, method, path, body, query } = call;
  const [resource, id, act] = path;
  const open = OPEN[`${method} ${path.join("/")}`];
  if (open) return open(call);
  if (!call.session) throw new Refusal(401, "not_signed_in", "Sign in first.");
  const special = SPECIAL[`${method} ${resource}${act ? `/${act}` : ""}`];
  if (special) {
    const done = special(call, id);
    if (done) return done;
  }
  const table = TABLES[resource];
  if (!table) throw notFound();
  const rows = world[table.rows];
  const row = id === undefined ? undefined : rows.find((one) => one[table.key] === id);
  if (id !== undefined && !row) throw notFound();
  const tag = (one) => (one.version === undefined ? {} : { ETag: `"${one.version}"` });
  if (method === "GET" && !row) return { body: page(sorted(rows.filter((one) => table.filter?.(one, query, call) ?? true), query), query) };
  if (method === "GET") return { body: row, headers: tag(row) };
  if (method === "POST" && !row) {
    const made = { id: randomUUID(), created_at: world.at(0), version: 1, ...table.make?.(call), ...body, ...table.after?.(call) };
    if (rows.some((one) => one[table.key] === made[table.key])) throw new Refusal(409, "conflict", `${made[table.key]} exists already.`);
    rows.unshift({ ...made, token: undefined, link: undefined });
    return { status: 201, body: made, headers: { Location: `${BASE}/${resource}/${made[table.key]}` } };
  }
  if (method === "PATCH") {
    if (!call.headers["if-match"]) throw new Refusal(428, "precondition_required", "Send If-Match.");
    if (row.version !== undefined && call.headers["if-match"] !== `"${row.version}"`) throw new Refusal(412, "precondition_failed", "It was changed meanwhile.");
    table.check?.(body);
    Object.assign(row, table.edit?.(body, row) ?? body, { version: (row.version ?? 0) + 1 });
    return { body: row, headers: tag(row) };
  }
  if (method === "DELETE") {
    const given = call.headers["if-match"];
    if (given && row.version !== undefined && given !== `"${row.version}"`) throw new Refusal(412, "precondition_failed", "It was changed meanwhile.");
    rows.splice(rows.indexOf(row), 1);
    return { status: 204 };
  }
  throw notFound();
}

function page(rows, query) {
  const limit = Number(query.get("limit") ?? 50);
  const from = Number(query.get("cursor") ?? 0);
  const next = from + limit < rows.length ? { next_cursor: String(from + limit) } : {};
  return { items: rows.slice(from, from + limit), ...next };
}

/** By `sort`, which the server has for certificates only. */
function sorted(rows, query) {
  const sort = query.get("sort");
  if (!sort) return rows;
  const [name, sign] = sort.startsWith("-") ? [sort.slice(1), -1] : [sort, 1];
  return [...rows].sort((a, b) => sign * String(a[name]).localeCompare(String(b[name])));
}

/** The certificates that stop passing with an authority, and the issuing authorities behind them. */
function dependants(world, name) {
  const { kind } = world.authorities.find((one) => one.name === name);
  const others = world.authorities.some((one) => one.kind === "root" && one.name !== name && ["trusted", "issuing", "retiring"].includes(one.state));
  const issuing = world.authorities.filter((one) => one.issuer === name && one.state !== "archived").map((one) => one.name);
  const authorities = kind === "issuing" ? [name] : others ? [] : issuing;
  const rows = world.certificates.filter((one) => one.state === "active" && authorities.includes(one.authority));
  const items = rows.map(({ serial, authority, person_id, device_id, device_name, not_after }) => ({ serial, authority, person_id, device_id, device_name, not_after }));
  const count = (key) => new Set(rows.map((row) => row[key])).size;
  return { certificates: rows.length, people: count("person_id"), devices: count("device_id"), authorities, items };
}

/** Moves an authority if it stands where the step begins. */
function step(from, to, more = () => {}) {
  return ({ world, body }, name) => {
    const row = world.authorities.find((one) => one.name === name);
    if (!row) throw notFound();
    if (!from.includes(row.state)) throw new Refusal(409, "wrong_state", `${name} is ${row.state}, and cannot do that from there.`);
    more({ world, body, row });
    row.state = to;
    return { body: { ...row, enforced: ENFORCED } };
  };
}

const fits = (name) => (row, query) => query.get(name) === null || row[name] === query.get(name);
const every = (...tests) => (row, query, call) => tests.every((test) => test(row, query, call));
const begins = (row, query) => [row.subject, row.email ?? "", row.device_name, row.serial].some((text) => text.toLowerCase().startsWith((query.get("search") ?? "").toLowerCase()));
const own = (row, _query, { session, entry }) => entry === "console" || row.person_id === session.person.id;

function checkUpstream({ targets, options = {} }) {
  for (const [i, target] of (targets ?? []).entries()) {
    if (!/^(https?:\/\/[^/]+|unix:\/[^/].*)$/.test(target)) throw invalid(`/targets/${i}`, `${target} is not an address like http://127.0.0.1:3000`);
  }
  const { path, interval_ms } = options.health_check ?? {};
  if (path !== undefined && !path.startsWith("/")) throw invalid("/options/health_check/path", "This must start with / and hold no spaces or other characters that URLs escape.");
  if (interval_ms < 100) throw invalid("/options/health_check/interval_ms", "This must be 100 to 3600000.");
}

/** An edit, and how the edge sees the targets after it. */
function editUpstream(body, row) {
  const { targets = row.targets, options = row.options } = body;
  const forced = (target) => options.forced?.find((one) => one.target === target)?.breaker;
  const seen = (one) => ({ ...one, breaker: forced(one.target) ? `forced_${forced(one.target)}` : one.breaker.replace(/^forced_.*/, "closed") });
  return { targets, options: upstreamOptions(options), state: row.state?.filter((one) => targets.includes(one.target)).map(seen) };
}

/** An edit; one of its fields stands for one of the options. */
function editRoute({ maintenance_enabled: enabled, ...rest }, row) {
  if (enabled === undefined) return rest;
  const options = rest.options ?? row.options ?? {};
  return { ...rest, options: { ...options, maintenance: { ...options.maintenance, enabled } } };
}

function checkRules({ lifetime_seconds }) {
  if (lifetime_seconds > 3 * 365 * 86_400) throw invalid("/lifetime_seconds", "must be 3600 to 94608000");
}

const TABLES = {
  people: { rows: "people", key: "id", make: () => ({ disabled: false, has_password: false }) },
  devices: { rows: "devices", key: "id", filter: every(own, (row, query) => query.get("person") === null || row.person_id === query.get("person")) },
  certificates: { rows: "certificates", key: "serial", filter: every(own, fits("state"), fits("person_id"), fits("device_id"), begins) },
  authorities: { rows: "authorities", key: "name" },
  profiles: { rows: "profiles", key: "name", check: checkRules, make: ({ world, body }) => ({ ...world.profiles[0], ...body.rules }) },
  sites: { rows: "sites", key: "host", edit: ({ certificate, ...rest }) => ({ ...rest, ...(certificate ? { certificate_source: certificate } : {}) }), make: () => ({ kind: "app", renewal: { state: "waiting", next_attempt_at: new Date().toISOString() } }), after: ({ body }) => ({ certificate_source: body.certificate, certificate: undefined }) },
  routes: { rows: "routes", key: "id", edit: editRoute, make: ({ body }) => ({ options: body.options ?? {} }) },
  upstreams: { rows: "upstreams", key: "name", check: checkUpstream, edit: editUpstream, make: ({ body }) => checkUpstream(body), after: ({ body }) => ({ options: upstreamOptions(body.options) }) },
  jobs: { rows: "jobs", key: "name" },
  alerts: { rows: "alerts", key: "id" },
  "audit-events": { rows: "audit", key: "id", filter: every(fits("action"), fits("actor"), (row, query) => query.get("chained") !== "false" || row.number === undefined) },
  "audit-links": { rows: "links", key: "number" },
  "audit-checkpoints": { rows: "checkpoints", key: "number" },
  "health-findings": { rows: "findings", key: "check" },
  tokens: { rows: "tokens", key: "id", make: ({ world, body }) => ({ token: `wkt_${randomBytes(27).toString("base64url")}`, expires_at: world.at(body.expires_in_days) }) },
  invitations: { rows: "invitations", key: "id", make: ({ world, body }) => ({ profile: "device", state: "open", expires_at: world.at((body.expires_in_hours ?? 72) / 24), link: `${world.doorUrl}/#/invitation/${world.invitationToken}` }) },
};

function signedIn(world, person, kind, more = {}, role = person.role) {
  const secret = randomBytes(32).toString("base64url");
  const session = { id: randomUUID(), kind, person: { id: person.id, email: person.email, name: person.name, role }, created_at: world.at(0), expires_at: world.at(0.5), ...more };
  world.sessions.set(secret, session);
  return { status: 201, body: session, headers: { "Set-Cookie": `__Host-session=${secret}; Secure; HttpOnly; Path=/; SameSite=Lax` } };
}

const passwordOf = (world, person) => world.passwords.get(person.id) ?? PASSWORD;

const OPEN = {
  "GET installation": ({ world }) => ({ body: { name: world.settings.installation_name, setup_required: world.setupRequired, door_url: world.doorUrl, version: "0.1.0" } }),
  "POST setup": ({ world, body }) => {
    if (body.token !== world.setupToken) throw new Refusal(403, "not_allowed", "This set-up link is not the present one. Print a new one with wicketgate setup-link.");
    if (!world.setupRequired) throw new Refusal(410, "setup_done", "This installation is set up already.");
    world.setupRequired = false;
    const person = { ...world.administrator, id: randomUUID(), name: body.name, email: body.email };
    world.people.push(person);
    return signedIn(world, person, "password");
  },
  "GET sessions/current": ({ session }) => {
    if (!session) throw new Refusal(401, "not_signed_in", "Nobody is signed in.");
    return { body: session };
  },
  "POST sessions": ({ world, body, entry }) => {
    if (body.email === "slow@example.org") throw new Refusal(429, "rate_limited", "Too many tries.", [], { "Retry-After": "150" });
    const person = world.people.find((one) => one.email === body.email);
    if (!person || body.password !== passwordOf(world, person)) throw new Refusal(401, "wrong_credentials", "The address or the password is not right.");
    return signedIn(world, person, "password", {}, entry === "portal" ? "member" : person.role);
  },
  "POST invitations/acceptance": ({ world, body }) => {
    if (body.token !== world.invitationToken) throw new Refusal(404, "not_found", "This invitation was used, revoked or has ended. Ask for a new one.");
    const invitation = world.invitations[0];
    const person = world.people.find((one) => one.id === invitation.person_id);
    invitation.state = "accepted";
    return { ...signedIn(world, person, "enrolment", { invitation: { id: invitation.id, device_name: invitation.device_name, profile: "device" } }), status: 200 };
  },
};

const ENFORCED = { edges: 2, acknowledged: 2 };

function certify(call, device, person) {
  const { world, body } = call;
  const serial = world.hex(16);
  const made = {
    ...{ serial, state: "active", person_id: person.id, device_id: device.id, device_name: device.name, profile: body.profile ?? "device", authority: "client-issuing-g1" },
    ...{ subject: `CN=${person.name}`, email: person.email, not_before: world.at(0), not_after: world.at(90), issued_at: world.at(0), lineage: randomUUID(), sha256: world.hex(32) },
    ...issue(body.csr, 90),
  };
  world.certificates.unshift(made);
  Object.assign(device, { state: "active", current_serial: serial, not_after: made.not_after });
  return { status: 201, body: { ...made, enforced: ENFORCED } };
}

const SPECIAL = {
  "DELETE sessions": ({ world, cookie }, id) => {
    for (const [secret, one] of world.sessions) if (one.id === id || (id === "current" && secret === cookie)) world.sessions.delete(secret);
    return { status: 204 };
  },
  "GET sessions": ({ world, session }) => ({ body: { items: [...world.sessions.values()].filter((one) => one.person.id === session.person.id).map((one) => ({ ...one, current: one === session })) } }),
  "PUT people/password": ({ world, body, session }) => {
    if (session.kind === "password" && body.current_password !== passwordOf(world, session.person)) throw invalid("/current_password", "This is not your present password.");
    if (body.new_password.length < 12) throw invalid("/new_password", "At least 12 characters.");
    world.passwords.set(session.person.id, body.new_password);
    return { status: 204 };
  },
  "POST certificates": (call, serial) => {
    if (serial) return undefined;
    const { world, body, session } = call;
    const person = world.people.find((one) => one.id === (body.person_id ?? session.person.id));
    let device = world.devices.find((one) => one.id === body.device_id);
    if (!device) {
      if (body.device_name === "taken") throw invalid("/device_name", "You have a device of this name already.");
      device = { id: randomUUID(), person_id: person.id, name: body.device_name, created_at: world.at(0), version: 1 };
      world.devices.unshift(device);
    }
    return certify(call, device, person);
  },
  "POST certificates/renewal": (call, serial) => {
    const { world } = call;
    const old = world.certificates.find((one) => one.serial === serial);
    if (old.state === "revoked") throw new Refusal(409, "already_revoked", "A revoked certificate cannot be renewed.");
    const device = world.devices.find((one) => one.id === old.device_id);
    const renewed = certify(call, device, world.people.find((one) => one.id === old.person_id));
    Object.assign(old, { replaced_by: renewed.body.serial, supersede_at: world.at(1) });
    return renewed;
  },
  "POST certificates/revocation": ({ world, body }, serial) => {
    const row = world.certificates.find((one) => one.serial === serial);
    if (!row) throw notFound();
    Object.assign(row, { state: "revoked", revoked_at: world.at(0), revocation_reason: body.reason, ...(body.invalid_since ? { invalid_since: body.invalid_since } : {}) });
    const device = world.devices.find((one) => one.current_serial === serial);
    if (device) device.state = body.reason === "certificateHold" ? "held" : "revoked";
    return { body: { ...row, enforced: ENFORCED } };
  },
  "POST certificates/release": ({ world }, serial) => {
    const row = world.certificates.find((one) => one.serial === serial);
    if (row?.revocation_reason !== "certificateHold") throw new Refusal(409, "not_on_hold", "Only a certificate on hold can be released.");
    Object.assign(row, { state: "active", revoked_at: undefined, revocation_reason: undefined, invalid_since: undefined });
    const device = world.devices.find((one) => one.current_serial === serial);
    if (device) device.state = "active";
    return { body: { ...row, enforced: ENFORCED } };
  },
  "POST devices/revocation": ({ world, body }, id) => {
    const device = world.devices.find((one) => one.id === id);
    device.state = body.reason === "certificateHold" ? "held" : "revoked";
    for (const one of world.certificates) if (one.device_id === id) Object.assign(one, { state: "revoked", revoked_at: world.at(0), revocation_reason: body.reason });
    return { body: { ...device, enforced: ENFORCED } };
  },
  "POST sites/renewal": ({ world }, host) => {
    world.sites.find((one) => one.host === host).renewal = { state: "running" };
    return { status: 202 };
  },
  "GET jobs/runs": ({ world }, name) => ({ body: { items: [world.jobs.find((one) => one.name === name).last_run].filter(Boolean) } }),
  "POST jobs/runs": ({ world }, name) => {
    world.jobs.find((one) => one.name === name).running = true;
    return { status: 202 };
  },
  "POST alerts/acknowledgement": ({ world }, id) => {
    const row = world.alerts.find((one) => one.id === id);
    row.acknowledged_at = world.at(0);
    return { body: row };
  },
  "POST profiles/explanation": ({ body }) => {
    if (!body.csr.includes("CERTIFICATE REQUEST")) throw invalid("/csr", "This is not a signing request.");
    const rulings = [
      { rule: "requester", admits: true, because: "An administrator may ask." },
      { rule: "key_type", admits: true, because: "P-256 is taken." },
      { rule: "devices_per_person", admits: false, because: "There are 5 devices already; 5 are allowed." },
    ];
    return { body: { admits: false, profile_version: 1, refused_by: "devices_per_person", rulings } };
  },
  "POST profiles/rehearsal": ({ world }) => {
    const changed = [{ at: world.at(-3), person_id: world.people[1].id, would_be_refused_by: "key_type", because: "RSA is not taken." }];
    return { body: { requests: 42, would_be_refused: 1, would_be_granted: 0, is_cut: false, changed } };
  },
  "GET profiles/versions": ({ world }, name) => {
    const profile = world.profiles.find((one) => one.name === name);
    const actor = `person:${world.administrator.id}`;
    const first = { ...profile, lifetime_seconds: 30 * 86_400, version: 1 };
    return { body: { items: [{ version: 2, at: world.at(-2), actor, profile: { ...profile, version: 2 } }, { version: 1, at: world.at(-90), actor: "system:setup", profile: first }] } };
  },
  "POST authorities": ({ world, body }, id) => {
    if (id !== undefined) return undefined;
    const [stem, title] = body.kind === "root" ? ["client-root", "Client Root"] : ["client-issuing", "Client Issuing"];
    const all = world.authorities.filter((one) => one.kind === body.kind);
    const number = all.length + 1;
    const made = { ...all.at(-1), name: `${stem}-g${number}`, common_name: `Orchard House ${title} G${number}`, state: "staged", not_before: world.at(0), not_after: world.at(3650), sha256: world.hex(32) };
    world.authorities.push(made);
    return { status: 201, body: made };
  },
  "POST authorities/trust": step(["staged"], "trusted"),
  "POST authorities/rollback": step(["trusted"], "staged"),
  "POST authorities/issuance": step(["trusted"], "issuing", ({ world, row }) => {
    const now = world.authorities.find((one) => one.kind === row.kind && one.state === "issuing");
    if (now) now.state = "retiring";
  }),
  "POST authorities/retirement": step(["issuing"], "retiring"),
  "POST authorities/archival": step(["staged", "retiring"], "archived", ({ world, body, row }) => {
    const { certificates } = dependants(world, row.name);
    if (certificates !== (body.acknowledge ?? 0)) throw new Refusal(409, "would_break", `${certificates} active certificates would break, and ${body.acknowledge ?? 0} were acknowledged.`);
  }),
  "GET authorities/dependants": ({ world, query }, name) => {
    const { items, ...counts } = dependants(world, name);
    return { body: { ...counts, ...page(items, query) } };
  },
  "GET audit-chain": ({ world }) => {
    const last = world.links.at(-1);
    const waiting = world.audit.filter((one) => one.number === undefined);
    return { body: { number: last.number, hash: last.hash, last_checkpoint: world.checkpoints.at(-1), unchained: waiting.length, ...(waiting.length > 0 ? { unchained_since: waiting.at(-1).at } : {}), ...(world.chainFault ? { fault: world.chainFault } : {}) } };
  },
  "POST audit-checkpoints": ({ world }) => {
    const { number } = world.links.at(-1);
    if (world.checkpoints.at(-1).number !== number) world.checkpoints.push(world.checkpoint(number, 0));
    return { body: world.checkpoints.at(-1) };
  },
  "GET audit-keys": ({ world }) => ({ body: { items: [{ key_id: world.checkpoints[0].key_id, pem: "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n" }] } }),
  "GET settings": ({ world }) => ({ body: world.settings, headers: { ETag: `"${world.settings.version}"` } }),
  "PATCH settings": ({ world, body, headers }) => {
    if (headers["if-match"] !== `"${world.settings.version}"`) throw new Refusal(412, "precondition_failed", "It was changed meanwhile.");
    Object.assign(world.settings, body, { version: world.settings.version + 1 });
    return { body: world.settings, headers: { ETag: `"${world.settings.version}"` } };
  },
};
