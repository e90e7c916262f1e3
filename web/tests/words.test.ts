import { describe, expect, test } from "vitest";
import { readProblem } from "../src/lib/api/problem";
import type { Certificate, Job, Site } from "../src/lib/api/types";
import { enforcedText } from "../src/lib/enforced";
import { duration, fromNow, lifeLeft } from "../src/lib/format";
import { certificateItems, jobItems, siteItems } from "../src/console/attention";
import { draftOf, policyOf, policyText, splitWords } from "../src/console/policy";
import { detect, encodingFor } from "../src/portal/install/platform";
import { guideFor } from "../src/portal/install/steps";

const NOW = Date.parse("2026-11-23T12:00:00Z");
const inDays = (days: number): string => new Date(NOW + days * 86_400_000).toISOString();

describe("problems", () => {
  const answer = (status: number, headers: Record<string, string> = {}): Response => new Response(null, { status, headers });

  test("carry detail, fields and the time to wait", () => {
    const body = { code: "rate_limited", detail: "Too many.", errors: [{ pointer: "/email", code: "x", detail: "No." }] };
    const problem = readProblem(answer(429, { "Retry-After": "90" }), body);
    expect([problem.code, problem.retryAfter, problem.field("/email")]).toEqual(["rate_limited", 90, "No."]);
  });

  test("are made of anything that a proxy in between may send", () => {
    for (const body of [undefined, null, "<html>", 7, { errors: "no list" }, { errors: [null, {}] }]) {
      const problem = readProblem(answer(502), body);
      expect([problem.code, problem.fields]).toEqual(["http_502", []]);
      expect(problem.detail).toContain("502");
    }
  });

  test("say when someone else was faster", () => {
    expect(readProblem(answer(412), {}).isStale).toBe(true);
  });
});

test.each([
  [inDays(12), "in 12 days"],
  [inDays(-1 / 8), "3 hours ago"],
  [inDays(0), "now"],
])("%s reads as %s", (time, text) => expect(fromNow(time, NOW)).toBe(text));

test("a wait is rounded up", () => {
  expect([duration(1), duration(45), duration(121)]).toEqual(["1 second", "45 seconds", "3 minutes"]);
});

test("life left is a fraction and stays between none and all", () => {
  expect(lifeLeft(inDays(-45), inDays(45), NOW)).toBeCloseTo(0.5);
  expect([lifeLeft(inDays(-9), inDays(-1), NOW), lifeLeft(inDays(1), inDays(9), NOW)]).toEqual([0, 1]);
});

test("how far a change has reached", () => {
  expect(enforcedText(undefined)).toBe("");
  expect(enforcedText({ edges: 3, acknowledged: 3 })).toBe("Every edge has it in force.");
  expect(enforcedText({ edges: 3, acknowledged: 1 })).toContain("1 of 3 edges");
});

describe("attention", () => {
  const site = (more: Partial<Site>): Site => ({ host: "a.example", certificate_source: "acme", ...more }) as Site;
  const certificate = { source: "acme", not_before: inDays(-80), not_after: inDays(10) } as NonNullable<Site["certificate"]>;

  test("goes by the share of the lifetime, not by days", () => {
    const sixDays = { ...certificate, not_before: inDays(-2), not_after: inDays(4) };
    expect(siteItems([site({ certificate }), site({ certificate: sixDays })], NOW).map((item) => item.grave)).toEqual([true]);
    const device = { serial: "aa", device_name: "Phone", person_id: "p", not_before: inDays(-80), not_after: inDays(10) } as Certificate;
    expect(certificateItems([device], () => "Anna", NOW)[0]?.text).toBe("Phone of Anna ends in 10 days.");
    expect(certificateItems([{ ...device, replaced_by: "bb" }], () => "Anna", NOW)).toEqual([]);
  });

  test("names a failing renewal, a fallback certificate and a failed job", () => {
    const failing = site({ renewal: { state: "waiting", last_error: "refused" } as NonNullable<Site["renewal"]> });
    expect(siteItems([failing], NOW)[0]?.text).toContain("refused");
    expect(siteItems([site({ certificate: { ...certificate, source: "local" } })], NOW)[0]?.text).toContain("local server authority");
    const job = { name: "publish_crls", last_run: { outcome: "failed" } } as Job;
    expect(jobItems([job])).toHaveLength(1);
  });
});

describe("policies", () => {
  test("survive the form", () => {
    const known = { kind: "known" as const, people: ["p"], groups: ["g"], profiles: [], devices: ["d"] };
    expect(policyOf(draftOf(known))).toEqual(known);
    expect(policyOf(draftOf({ kind: "public" }))).toEqual({ kind: "public" });
  });

  test("read as sentences", () => {
    const name = (id: string): string => id.toUpperCase();
    expect(policyText({ kind: "public" }, name)).toMatch(/Everyone/);
    expect(policyText(policyOf(draftOf(undefined)), name)).toBe("Every known device");
    expect(policyText({ kind: "known", people: ["a"], groups: ["x", "y"], profiles: [], devices: ["1"] }, name)).toBe("groups x, y; A; 1 device");
  });

  test("groups are split at commas and spaces, without doubles", () => {
    expect(splitWords(" family, work  family;")).toEqual(["family", "work"]);
  });
});

test.each([
  ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)", 5, "apple_mobile", "compat"],
  ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari", 5, "apple_mobile", "compat"],
  ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari", 0, "macos", "compat"],
  ["Mozilla/5.0 (Linux; Android 10; K) Chrome/140", 5, "android", "compat"],
  ["Mozilla/5.0 (Windows NT 10.0; Win64; x64)", 0, "windows", "modern"],
  ["Mozilla/5.0 (X11; Linux x86_64; rv:140.0)", 0, "linux", "modern"],
])("%s with %i touch points is %s", (userAgent, maxTouchPoints, platform, encoding) => {
  const here = detect({ userAgent, maxTouchPoints });
  expect([here.platform, encodingFor(here.platform)]).toEqual([platform, encoding]);
  expect(guideFor(here.platform, "my.p12").steps.some(({ say, command = "" }) => `${say}${command}`.includes("my.p12"))).toBe(true);
});
