// Access policies in words, and from and to the form.
import type { AccessPolicy } from "$lib/api/types";
import { plural } from "$lib/format";
import { draftOfRule, ruleOf, type RuleDraft } from "./rules";

export interface PolicyDraft {
  kind: "public" | "known";
  people: string[];
  groups: string[];
  profiles: string[];
  devices: string[];
  rules: RuleDraft[];
}

export function draftOf(policy: AccessPolicy | undefined): PolicyDraft {
  const nothing = { people: [], groups: [], profiles: [], devices: [], rules: [] };
  if (policy?.kind === "public") return { kind: "public", ...nothing };
  const { people = [], groups = [], profiles = [], devices = [], rules = [] } = policy ?? {};
  return { kind: "known", people, groups, profiles, devices, rules: rules.map(draftOfRule) };
}

export function policyOf(draft: PolicyDraft): AccessPolicy {
  if (draft.kind === "public") return { kind: "public" };
  const { people, groups, profiles, devices, rules } = draft;
  const known = { kind: "known" as const, people, groups, profiles, devices };
  return rules.length > 0 ? { ...known, rules: rules.map(ruleOf) } : known;
}

/** For example “group operations, 2 people”. */
export function policyText(policy: AccessPolicy, nameOf: (id: string) => string): string {
  const { kind, people, groups, profiles, devices, rules } = draftOf(policy);
  if (kind === "public") return "Everyone, without a certificate";
  const parts = [
    groups.length > 0 ? `${groups.length === 1 ? "group" : "groups"} ${groups.join(", ")}` : "",
    people.length > 3 ? plural(people.length, "person", "people") : people.map(nameOf).join(", "),
    profiles.length > 0 ? `${profiles.length === 1 ? "profile" : "profiles"} ${profiles.join(", ")}` : "",
    devices.length > 0 ? plural(devices.length, "device") : "",
  ].filter((part) => part !== "");
  if (rules.length === 0) return parts.length === 0 ? "Every known device" : parts.join("; ");
  return [plural(rules.length, "rule"), ...(parts.length === 0 ? [] : [`else ${parts.join("; ")}`])].join(", ");
}

/** `operations, family` → the groups, without doubles. */
export const splitWords = (text: string): string[] => [...new Set(text.split(/[\s,;]+/).filter((word) => word !== ""))];
