// The fixtures: a small team with everything that a page can show, good and bad.
import { createHash, randomBytes, randomUUID } from "node:crypto";

const DAY = 86_400_000;
const at = (days) => new Date(Date.now() + days * DAY).toISOString().replace(/\.\d+Z$/, "Z");
const hex = (bytes) => randomBytes(bytes).toString("hex");

export const PASSWORD = "wicket gate mock";
const PEM = `-----BEGIN CERTIFICATE-----\n${randomBytes(480).toString("base64").match(/.{1,64}/g).join("\n")}\n-----END CERTIFICATE-----\n`;

/** As the server hashes: see the pages' own `audit-export.ts`, which must agree. */
function linkHash(before, number, event) {
  const eight = (value) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64BE(BigInt(value));
    return bytes;
  };
  const hash = createHash("sha256");
  const put = (part) => hash.update(eight(part.length)).update(part);
  put(Buffer.from("wicketgate audit link 1"));
  hash.update(before).update(eight(number));
  put(Buffer.from(event.id));
  put(eight(Date.parse(event.at) / 1000));
  for (const name of ["phase", "act", "actor", "action"]) put(Buffer.from(event[name]));
  for (const name of ["object_kind", "object_id", "outcome", "detail", "request_id"]) {
    hash.update(Buffer.from([event[name] === undefined ? 0 : 1]));
    put(Buffer.from(event[name] ?? ""));
  }
  return hash.digest();
}

/** As the server answers: every value that has a default, also where nobody gave one. */
export function upstreamOptions({ health_check: check, forced, ...given } = {}) {
  const path = check?.kind === "http" ? { path: "/" } : {};
  return {
    ...{ balance: "least_loaded", protocol: "http1", failures_to_open: 5, success_percent: 50, may_eject_all: false },
    ...{ max_queue: 100, queue_timeout_ms: 1_000, retry_percent: 20 },
    ...given,
    ...(check ? { health_check: { ...path, interval_ms: 5_000, timeout_ms: 2_000, healthy_after: 2, unhealthy_after: 3, ...check } } : {}),
    ...(forced?.length > 0 ? { forced } : {}),
  };
}

export function makeWorld() {
  const person = (name, role, groups, more = {}) => ({
    id: randomUUID(),
    email: `${name.split(" ")[0].toLowerCase()}@example.org`,
    name,
    role,
    groups,
    disabled: false,
    has_password: true,
    created_at: at(-200),
    version: 1,
    ...more,
  });
  const anna = person("Anna Grün", "administrator", ["family", "operations"]);
  const ben = person("Ben Ahrens", "member", ["family"]);
  const cleo = person("Cleo Martín", "member", ["operations"], { has_password: false });
  const dario = person("Dario Former-Colleague-With-A-Long-Name", "member", [], { disabled: true });
  const backup = person("backup robot", "member", ["machines"], { email: "operations@example.org", has_password: false });
  const people = [anna, ben, cleo, dario, backup];

  const devices = [];
  const certificates = [];
  function device(owner, name, state, from, to, reason) {
    const id = randomUUID();
    const serial = hex(16);
    const empty = state === "empty";
    const shown = reason === "certificateHold" ? "held" : state;
    devices.push({ id, person_id: owner.id, name, state: shown, created_at: at(from), version: 1, ...(empty ? {} : { current_serial: serial, not_after: at(to) }) });
    if (empty) return;
    certificates.push({
      serial,
      state,
      person_id: owner.id,
      device_id: id,
      device_name: name,
      profile: "device",
      authority: "client-issuing-g1",
      subject: `CN=${owner.name}`,
      ...(owner.email ? { email: owner.email } : {}),
      not_before: at(from),
      not_after: at(to),
      issued_at: at(from),
      ...(state === "revoked" ? { revoked_at: at(-2), revocation_reason: reason } : {}),
      renewal_opens_at: at(to - 30),
      renewal_due: state === "active" && to < 30,
      profile_version: 1,
      lineage: randomUUID(),
      sha256: hex(32),
      pem: PEM,
      chain_pem: PEM,
    });
  }
  device(anna, "Anna's iPhone", "active", -20, 70);
  device(anna, "Anna's MacBook Pro (work)", "active", -84, 6);
  device(anna, "Old ThinkPad", "expired", -130, -40);
  device(anna, "Pixel 6", "revoked", -60, 30, "keyCompromise");
  device(anna, "Travel laptop", "revoked", -40, 50, "certificateHold");
  device(anna, "Kitchen tablet", "empty", -1, 0);
  device(ben, "Ben's Galaxy", "active", -30, 60);
  device(cleo, "Cleo's desktop", "active", -88, 2);
  device(dario, "Dario's laptop", "revoked", -80, 10, "affiliationChanged");
  device(backup, "backup host", "active", -10, 80);

  // The iPhone was renewed; its first certificate still works for a while.
  const [phone] = certificates;
  certificates.push({ ...phone, serial: hex(16), not_before: at(-80), not_after: at(10), issued_at: at(-80), replaced_by: phone.serial, supersede_at: at(1) });

  const authority = (name, kind, state, common_name, from, years, more = {}) => ({
    name,
    kind,
    state,
    common_name,
    not_before: at(from),
    not_after: at(from + years * 365),
    sha256: hex(32),
    pem: PEM,
    key_here: true,
    ...(kind === "root" ? { issues_until: at(from + (years - 10) * 365), cross_certificates: [] } : {}),
    ...(kind === "issuing" ? { issues_until: at(from + years * 365 - 90), issuer: "client-root-g1" } : {}),
    ...more,
  });
  const list = (name, number, days) => ({ crl_url: `http://door.example.org/pki/${name}.crl`, crl_number: number, crl_next_update: at(days) });
  const cross = (issuer, subject) => ({ serial: hex(16), issuer, subject, not_before: at(-30), not_after: at(4000), sha256: hex(32), pem: PEM });
  const crosses = [cross("client-root-g1", "client-root-g2"), cross("client-root-g2", "client-root-g1")];
  const authorities = [
    authority("client-root-g1", "root", "issuing", "Orchard House Client Root G1", -3200, 20, { ...list("client-root-g1", 3, 150), cross_certificates: crosses }),
    authority("client-root-g2", "root", "trusted", "Orchard House Client Root G2", -30, 20, { ...list("client-root-g2", 1, 150), cross_certificates: crosses }),
    authority("client-issuing-g1", "issuing", "issuing", "Orchard House Client Issuing G1", -3200, 10, list("client-issuing-g1", 418, 0.6)),
    authority("client-issuing-g2", "issuing", "staged", "Orchard House Client Issuing G2", -1, 10),
    authority("local-server-g1", "local_server", "issuing", "Orchard House Local Server Authority G1", -200, 10),
  ];
  const finding = (check, severity, object, detail, advice) => ({ check, severity, object, detail, advice });
  const findings = [
    finding("authority_ending", "warning", "client-issuing-g1", "ends at 2027-12-20T10:00:00Z", "Begin the next generation and roll over to it while this one is still trusted."),
    finding("key_file", "critical", "/etc/wicketgate/keys/authority.key", "has mode 0644", "Make it readable by its owner alone (chmod 0600), and think about who has read it."),
  ];

  const site = (host, kind, client_auth, more = {}) => ({
    host,
    kind,
    client_auth,
    hsts_max_age_seconds: 63_072_000,
    certificate_source: "acme",
    enabled: true,
    certificate: { source: "acme", issuer: "Let's Encrypt E7", serial: hex(18), not_before: at(-30), not_after: at(60), sha256: hex(32) },
    renewal: { state: "waiting", next_attempt_at: at(30) },
    version: 1,
    ...more,
  });
  const sites = [
    site("door.example.org", "door", "request"),
    site("grafana.example.org", "app", "request"),
    site("home.example.org", "app", "require", {
      certificate: { source: "acme", issuer: "Let's Encrypt E7", serial: hex(18), not_before: at(-85), not_after: at(5), sha256: hex(32) },
      renewal: { state: "failing", next_attempt_at: at(0.1), last_error: "The authority could not reach http://home.example.org/.well-known/acme-challenge/…: connection refused" },
    }),
    site("new-app.example.org", "app", "none", {
      certificate: { source: "local", issuer: "Orchard House Local Server Authority G1", serial: hex(16), not_before: at(0), not_after: at(7), sha256: hex(32) },
      renewal: { state: "running" },
      enabled: false,
    }),
  ];
  const seen = (target, more = {}) => ({ target, breaker: "closed", health: "unknown", in_flight: 0, requests: 0, failures: 0, ...more });
  const upstreams = [
    {
      name: "grafana",
      targets: ["http://127.0.0.1:3000"],
      options: upstreamOptions(),
      state: [seen("http://127.0.0.1:3000", { in_flight: 2, latency_ms: 12.4, requests: 12_034, failures: 3, last_failure: "timeout" })],
      version: 1,
    },
    {
      name: "home-assistant",
      targets: ["http://10.0.0.5:8123", "http://10.0.0.6:8123", "http://10.0.0.7:8123", "http://10.0.0.8:8123"],
      options: upstreamOptions({
        health_check: { kind: "http", path: "/api/health" },
        max_in_flight: 20,
        forced: [
          { target: "http://10.0.0.7:8123", breaker: "open" },
          { target: "http://10.0.0.8:8123", breaker: "closed" },
        ],
      }),
      state: [
        seen("http://10.0.0.5:8123", { health: "healthy", in_flight: 7, latency_ms: 4.2, requests: 88_121 }),
        seen("http://10.0.0.6:8123", { breaker: "open", health: "unhealthy", requests: 40_310, failures: 71, last_failure: "connect" }),
        seen("http://10.0.0.7:8123", { breaker: "forced_open", health: "healthy", latency_ms: 5.1, requests: 39_006, failures: 2, last_failure: "status" }),
        seen("http://10.0.0.8:8123", { breaker: "forced_closed", health: "unhealthy", in_flight: 1, latency_ms: 1_480, requests: 9, failures: 4, last_failure: "protocol" }),
      ],
      version: 2,
    },
    // No route leads there.
    { name: "media", targets: ["http://media-server-with-a-long-name.internal.example.org:8096"], options: upstreamOptions({ balance: "round_robin" }), version: 1 },
  ];
  const routes = [
    { id: randomUUID(), host: "grafana.example.org", path_prefix: "/", upstream: "grafana", policy: { kind: "known", people: [], groups: ["operations"], profiles: [], devices: [] }, plain_header: "X-WEBAUTH-USER", options: { rate: [{ per: "person", requests: 100, seconds: 10 }], max_body_mib: 64 }, version: 1 },
    { id: randomUUID(), host: "grafana.example.org", path_prefix: "/public", upstream: "grafana", policy: { kind: "public" }, options: {}, version: 1 },
    { id: randomUUID(), host: "home.example.org", path_prefix: "/", upstream: "home-assistant", policy: { kind: "known", people: [], groups: [], profiles: [], devices: [] }, options: {}, version: 3 },
  ];
  const run = (outcome, days, detail) => ({ id: randomUUID(), started_at: at(days), ...(outcome ? { finished_at: at(days + 0.001), outcome } : {}), ...(detail ? { detail } : {}) });
  const job = (name, schedule, description, last, next, running = false) => ({ name, schedule, description, running, ...(last ? { last_run: last } : {}), next_run_at: at(next) });
  const jobs = [
    job("renew_server_certificates", "0 */10 * * * *", "Renews the certificates of sites that are due.", run("failed", -0.004, "home.example.org: challenge not reachable"), 0.003),
    job("publish_crls", "0 0 */6 * * *", "Signs new revocation lists before the old ones end.", run("succeeded", -0.2), 0.05),
    job("expiry_mails", "0 0 8 * * *", "Tells owners about certificates that end soon.", run("succeeded", -0.5), 0.5),
    job("refresh_live", "0 * * * * *", "Brings configuration and register to the edges.", run(undefined, -0.0001), 0.0007, true),
    job("tidy_up", "0 30 3 * * *", "Removes sessions, invitations and challenge tokens that ended.", undefined, 0.3),
  ];
  const alerts = [
    { id: randomUUID(), kind: "renewal_failing", object: "home.example.org", message: "Renewal failed 4 times; the certificate ends in 5 days. The authority could not reach the challenge over http.", severity: "critical", raised_at: at(-0.8) },
    { id: randomUUID(), kind: "client_certificate_expiring", object: "Cleo's desktop", message: "The certificate of Cleo's desktop ends in 2 days and was not renewed.", severity: "warning", raised_at: at(-3), acknowledged_at: at(-1) },
    { id: randomUUID(), kind: "mail_failed", object: "outbox", message: "A mail could not be delivered.", severity: "warning", raised_at: at(-9), closed_at: at(-8) },
  ];
  const audit = [];
  const actions = ["certificate.issue", "certificate.revoke", "session.create", "site.renew", "route.edit", "person.invite"];
  for (let i = 0; i < 60; i++) {
    const act = randomUUID();
    const action = actions[i % actions.length];
    const base = { act, actor: i % 3 ? `person:${anna.id}` : "system:renew_server_certificates", action, object_kind: action.split(".")[0], object_id: hex(8), request_id: randomUUID() };
    audit.push({ id: randomUUID(), at: at(-i / 9), phase: "finished", outcome: i % 7 === 3 ? "failed" : "succeeded", ...(i % 7 === 3 ? { detail: "the challenge was not reachable" } : {}), ...base });
    audit.push({ id: randomUUID(), at: at(-i / 9 - 0.00001), phase: "started", ...base });
  }
  // The newest acts are not chained yet.
  const links = [];
  let hash = Buffer.alloc(32);
  for (const event of audit.slice(2).reverse()) {
    hash = linkHash(hash, links.length + 1, event);
    links.push({ number: links.length + 1, hash: hash.toString("hex"), event: { ...event } });
    Object.assign(event, { number: links.length, link: hash.toString("hex") });
  }
  const checkpoint = (number, days) => ({ installation_id: "0192f0c1-0000-7000-8000-000000000001", number, hash: links[number - 1].hash, at: at(days), key_id: `audit-${"5a".repeat(32)}`, signature: randomBytes(70).toString("base64") });
  const checkpoints = [checkpoint(40, -3), checkpoint(100, -0.02)];
  const invitations = [
    { id: randomUUID(), person_id: cleo.id, device_name: "Cleo's phone", profile: "device", state: "open", created_at: at(-1), expires_at: at(2) },
    { id: randomUUID(), person_id: ben.id, device_name: "Ben's Galaxy", profile: "device", state: "used", created_at: at(-31), expires_at: at(-28) },
    { id: randomUUID(), person_id: dario.id, profile: "device", state: "expired", created_at: at(-81), expires_at: at(-78) },
  ];
  const tokens = [
    { id: randomUUID(), name: "deploy pipeline", role: "administrator", created_at: at(-40), expires_at: at(50), last_used_at: at(-0.1) },
    { id: randomUUID(), name: "monitoring", role: "member", created_at: at(-300), expires_at: at(4) },
  ];
  const profile = (name, more) => ({ name, lifetime_seconds: 90 * 86_400, lifetime_days: 90, back_date_seconds: 300, key_types: ["P-256", "P-384", "RSA"], rsa_min_bits: 2048, common_name: "person_name", person_uri: true, device_uri: true, email: true, dns_suffixes: [], requesters: "owner_or_administrator", groups: [], renewal_needs_new_key: false, outliving: "cap", version: 1, ...more });
  return {
    at,
    hex,
    name: "Orchard House",
    setupRequired: false,
    setupToken: randomBytes(32).toString("base64url"),
    adminToken: `wkt_${randomBytes(27).toString("base64url")}`,
    invitationToken: randomBytes(32).toString("base64url"),
    settings: { installation_name: "Orchard House", version: 1 },
    profiles: [profile("device", {}), profile("machine", { lifetime_seconds: 36 * 3600, lifetime_days: 1, key_types: ["P-256"], dns_suffixes: ["example.org"], requesters: "administrator", groups: ["machines"], overlap_seconds: 86_400, version: 2 })],
    sessions: new Map(),
    passwords: new Map(),
    administrator: anna,
    people, devices, certificates, authorities, findings, links, checkpoints, checkpoint, sites, upstreams, routes, jobs, alerts, audit, invitations, tokens,
  };
}
