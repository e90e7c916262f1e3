// Rules of a policy, from and to the form.
import { describe, expect, test } from "vitest";
import type { AccessPolicy, AccessRule } from "../src/lib/api/types";
import { draftOf, policyOf, policyText } from "../src/console/policy";
import { draftOfRule, looksAtRequests, moved, namedIn, newRule, ruleOf, withBareIds } from "../src/console/rules";

const office: AccessRule = {
  name: "office",
  effect: "allow",
  when: {
    people: ["p"],
    groups: ["staff", "board"],
    networks: ["10.0.0.0/8"],
    methods: ["GET"],
    path_prefixes: ["/app"],
    sans: ["dns:*.example.com"],
    certificate_age_max_days: 0,
  },
};

describe("rules", () => {
  test("survive the form", () => {
    expect(ruleOf(draftOfRule(office))).toEqual(office);
    const everybody: AccessRule = { name: "everybody", effect: "deny" };
    expect(ruleOf(draftOfRule(everybody))).toEqual(everybody);
    const policy: AccessPolicy = { kind: "known", people: [], groups: ["staff"], profiles: [], devices: [], rules: [office, everybody] };
    expect(policyOf(draftOf(policy))).toEqual(policy);
  });

  test("are typed as people type lists", () => {
    const draft = newRule();
    draft.name = " night ";
    draft.lists.methods = " GET,POST  GET ";
    expect(ruleOf(draft)).toEqual({ name: "night", effect: "allow", when: { methods: ["GET", "POST"] } });
  });

  test("keep commas in what stands in lines", () => {
    const odd: AccessRule = { name: "odd", effect: "deny", when: { path_prefixes: ["/a,b", "/c"], sans: ["uri:urn:x,y z"] } };
    expect(ruleOf(draftOfRule(odd))).toEqual(odd);
    const draft = newRule();
    draft.name = "lines";
    draft.lists.path_prefixes = " /a \r\n\n/b,c\n/a";
    expect(ruleOf(draft).when).toEqual({ path_prefixes: ["/a", "/b,c"] });
  });

  test("name those whom the form has to show, and say whether they look at requests", () => {
    const rules = [office, { name: "lost", effect: "deny" as const, when: { devices: ["d"] } }];
    expect(namedIn(rules.map(draftOfRule), "devices")).toEqual(["d"]);
    expect(namedIn(rules.map(draftOfRule), "people")).toEqual(["p"]);
    const known = [{ value: "a", label: "Anna" }];
    expect(withBareIds(known, ["a", "d", "d"])).toEqual([...known, { value: "d", label: "d" }]);
    expect(looksAtRequests([office])).toBe(true);
    expect(looksAtRequests(rules.slice(1))).toBe(false);
    expect(looksAtRequests()).toBe(false);
  });

  test("move one place, and not beyond the ends", () => {
    const rules = ["a", "b", "c"].map((name) => draftOfRule({ name, effect: "allow" }));
    const names = (drafts: typeof rules): string => drafts.map(({ name }) => name).join("");
    expect(names(moved(rules, 0, 1))).toBe("bac");
    expect(names(moved(rules, 2, -1))).toBe("acb");
    expect(names(moved(rules, 0, -1))).toBe("abc");
    expect(names(moved(rules, 2, 1))).toBe("abc");
  });

  test("read as sentences, with what comes behind them", () => {
    const name = (id: string): string => id;
    expect(policyText({ kind: "known", rules: [office] }, name)).toBe("1 rule");
    expect(policyText({ kind: "known", groups: ["staff"], rules: [office, office] }, name)).toBe("2 rules, else group staff");
  });
});
