import { describe, expect, test } from "vitest";
import type { Authority, AuditCheckpoint, AuditEvent, AuditLink, Certificate, Device, HealthFinding } from "../src/lib/api/types";
import { healthItems, worstFirst } from "../src/console/attention";
import { linkHash, writeExport, type Source } from "../src/console/audit-export";
import { orderFor, ordersOf } from "../src/console/orders";
import { advice, inOrder, percentUsed, stepsOf } from "../src/console/rollover";
import { csv } from "../src/lib/csv";
import { sentence } from "../src/lib/format";
import { before, endOf, heldSince } from "../src/portal/standing";

const NOW = Date.parse("2026-11-23T12:00:00Z");
const inDays = (days: number): string => new Date(NOW + days * 86_400_000).toISOString();
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("roll-over", () => {
  const one = (name: string, kind: Authority["kind"], state: Authority["state"], more: Partial<Authority> = {}): Authority =>
    ({ name, kind, state, not_before: inDays(-100), not_after: inDays(300), ...more }) as Authority;
  const verbs = (authority: Authority, all: Authority[] = []): string[] => stepsOf(authority, all).map(({ verb }) => verb);

  test.each([
    ["staged", ["trust", "archival"]],
    ["trusted", ["issuance", "rollback"]],
    ["issuing", ["retirement"]],
    ["retiring", ["archival"]],
    ["archived", []],
  ] as const)("from %s leads what the server allows", (state, expected) => {
    expect(verbs(one("i", "issuing", state))).toEqual(expected);
    expect(verbs(one("r", "root", state))).toEqual(expected);
  });

  test("the local server authority and the upstream authority are not rolled over", () => {
    expect(verbs(one("l", "local_server", "issuing"))).toEqual([]);
    expect(verbs(one("u", "upstream", "trusted"))).toEqual([]);
  });

  test("what leads to harm asks for the name, and the way back does not", () => {
    const asked = (state: Authority["state"]): string[] => stepsOf(one("i", "issuing", state), []).filter((step) => step.byWord).map(({ verb }) => verb);
    expect([asked("staged"), asked("trusted"), asked("issuing"), asked("retiring")]).toEqual([[], [], ["retirement"], ["archival"]]);
  });

  test("a step says whom it moves with it", () => {
    const all = [one("g1", "issuing", "issuing"), one("g2", "issuing", "trusted"), one("r1", "root", "issuing"), one("r2", "root", "staged")];
    expect(stepsOf(all[1] as Authority, all)[0]?.does).toContain("g1 retires");
    expect(stepsOf(all[3] as Authority, all)[0]?.does).toContain("r1 vouch for each other");
  });

  test("advice names the successor, the time to stage one, and that it is late", () => {
    const g1 = one("g1", "issuing", "issuing", { issues_until: inDays(200) });
    expect(advice(g1, [g1, one("g2", "issuing", "staged")], NOW)).toContain("g2 is staged");
    expect(advice(g1, [g1], NOW)).toContain("Stage the next generation before");
    expect(advice({ ...g1, issues_until: inDays(-1) }, [g1], NOW)).toContain("Roll over now");
  });

  test("the share used is whole and 100 only at the end", () => {
    expect(percentUsed(one("a", "root", "issuing"), NOW)).toBe(25);
    const ending = { ...one("a", "root", "issuing"), not_after: inDays(0.01) };
    expect([percentUsed(ending, NOW), percentUsed({ ...ending, not_after: inDays(-1) }, NOW)]).toEqual([99, 100]);
  });

  test("what is archived comes last, newer generations first", () => {
    const all = [one("g1", "issuing", "archived"), one("g2", "issuing", "retiring"), one("g3", "issuing", "issuing", { not_before: inDays(-1) })];
    expect(inOrder(all).map(({ name }) => name)).toEqual(["g3", "g2", "g1"]);
  });
});

describe("the audit's export", () => {
  const event = (id: string, more: Partial<AuditEvent> = {}): AuditEvent => ({
    id,
    at: "2027-01-15T08:00:00Z",
    phase: "finished",
    act: "0192f0c1-2345-7abc-8def-0123456789aa",
    actor: "system:test",
    action: "certificate.issue",
    outcome: "succeeded",
    detail: "",
    ...more,
  });

  test("hashes as the server does, byte for byte", async () => {
    const hash = await linkHash(new Uint8Array(32), 1, event("0192f0c1-2345-7abc-8def-0123456789ab"));
    expect(hex(hash)).toBe("bfc4583b9b6ca16b8071f13ed746747dabe61ed05e21a99a3f4d034a5d8e00d8");
  });

  async function chain(count: number): Promise<AuditLink[]> {
    const links: AuditLink[] = [];
    let hash: Uint8Array = new Uint8Array(32);
    for (let number = 1; number <= count; number++) {
      const one = event(`event-${number}`, { detail: 'quotes " and \u2028 and \u0001' });
      hash = await linkHash(hash, number, one);
      links.push({ number, hash: hex(hash), event: one });
    }
    return links;
  }

  async function* from<T>(all: T[]): AsyncGenerator<T> {
    for (const one of all) yield await Promise.resolve(one);
  }

  function source(links: AuditLink[], upTo: number, unchained: AuditEvent[] = []): Source {
    const checkpoint = (number: number): AuditCheckpoint => ({ installation_id: "i", number, hash: links[number - 1]?.hash ?? "", at: "2027-01-15T08:01:00Z", key_id: "audit-k", signature: "AQID" });
    return {
      sign: () => Promise.resolve(checkpoint(upTo)),
      keys: () => Promise.resolve([{ key_id: "audit-k", pem: "-----BEGIN PUBLIC KEY-----\nMFkw\nEwYH\n-----END PUBLIC KEY-----\n" }]),
      checkpoints: () => from([checkpoint(2), checkpoint(upTo)]),
      links: () => from(links),
      unchained: () => from(unchained),
    };
  }

  test("has each checkpoint behind its link, and stops at what was signed", async () => {
    const links = await chain(6);
    const written = await writeExport(source(links, 5, [event("young", { number: 9 })]), () => undefined, NOW);
    const lines = (await written.file.text()).trimEnd().split("\n").map((line) => JSON.parse(line) as Record<string, { number?: number }>);
    expect(lines.map((line) => `${Object.keys(line)[0] ?? ""} ${Object.values(line)[0]?.number ?? ""}`.trim())).toEqual(
      ["header", "link 1", "link 2", "checkpoint 2", "link 3", "link 4", "link 5", "checkpoint 5", "unchained", "end"],
    );
    expect(lines[0]?.["header"]).toMatchObject({ format: "wicketgate-audit-1", exported_at: "2026-11-23T12:00:00Z", keys: [{ spki: "MFkwEwYH" }] });
    expect(lines.at(-1)?.["end"]).toMatchObject({ links: 5, checkpoints: 2, unchained: 1 });
    expect([written.links, written.brokenAt]).toEqual([5, undefined]);
  });

  test("names the first link that does not follow", async () => {
    const changed = (await chain(6)).map((link) => (link.number === 3 ? { ...link, event: event("other") } : link));
    expect((await writeExport(source(changed, 6), () => undefined)).brokenAt).toBe(3);
    const gap = (await chain(6)).filter(({ number }) => number !== 4);
    expect((await writeExport(source(gap, 5), () => undefined)).brokenAt).toBe(5);
    const gone = (await chain(6)).map((link) => (link.number === 2 ? { number: 2, hash: link.hash } : link));
    expect((await writeExport(source(gone, 6), () => undefined)).brokenAt).toBe(2);
  });

  test("is refused when it is too long for a page", async () => {
    await expect(writeExport(source([], 200_001), () => undefined)).rejects.toThrow("wicketgate audit export");
  });
});

describe("orders", () => {
  test("are those of the state, and another state falls back to its usual one", () => {
    expect(ordersOf("expired")[0]?.value).toBe("-not_after");
    expect([orderFor("active", "-not_after"), orderFor("revoked", "-not_after"), orderFor("", "")]).toEqual(["-not_after", "-revoked_at", "-issued_at"]);
  });
});

test("a spreadsheet reads cells as text", () => {
  expect(csv([["a", 'b"c', "d,e"], ["=1+1", "@x", "-3", "plain"]])).toBe("a,\"b\"\"c\",\"d,e\"\r\n'=1+1,'@x,'-3,plain\r\n");
});

describe("health", () => {
  const finding = (object: string, severity: HealthFinding["severity"]): HealthFinding => ({ check: "c", object, severity, detail: "", advice: "" });

  test("is one line on the overview, grave if anything is wrong now", () => {
    expect(healthItems([])).toEqual([]);
    expect(healthItems([finding("a", "warning")])[0]).toMatchObject({ text: "1 health finding: a", grave: false });
    expect(healthItems([finding("a", "warning"), finding("b", "critical")])[0]).toMatchObject({ text: "2 health findings, 1 critical: a, b", grave: true });
  });

  test("has the critical first", () => {
    expect(worstFirst([finding("a", "warning"), finding("b", "critical")]).map(({ object }) => object)).toEqual(["b", "a"]);
  });

  test("details read as sentences", () => {
    expect([sentence("ends soon"), sentence("Is it?")]).toEqual(["Ends soon.", "Is it?"]);
  });
});

describe("a device of mine", () => {
  const device = { id: "d", current_serial: "new" } as Device;
  const old = { serial: "old", device_id: "d", replaced_by: "new", not_after: inDays(20) } as Certificate;

  test("shows its old certificate until the overlap is over, or until it ends", () => {
    expect(endOf({ ...old, supersede_at: inDays(1) })).toEqual({ serial: "old", until: inDays(1), isTakenBack: true });
    expect(endOf({ ...old, supersede_at: inDays(30) })).toMatchObject({ until: inDays(20), isTakenBack: false });
    expect(endOf(old).isTakenBack).toBe(false);
    const all = [{ ...old, serial: "new" }, old, { ...old, serial: "x", device_id: "other" }, { serial: "y", device_id: "d", not_after: inDays(1) } as Certificate];
    expect(before(device, all).map(({ serial }) => serial)).toEqual(["old"]);
  });

  test("is held since its newest certificate is", () => {
    const held = (issued: number, since: number): Certificate => ({ device_id: "d", revocation_reason: "certificateHold", issued_at: inDays(issued), revoked_at: inDays(since) }) as Certificate;
    expect(heldSince(device, [held(-9, -1), held(-5, -2)])).toBe(inDays(-2));
    expect(heldSince(device, [{ ...held(-9, -1), revocation_reason: "keyCompromise" }])).toBeUndefined();
  });
});
