// Rules of a policy in words, and from and to the form. Pure. What they mean is written in the server's
// `domain/rule.rs`.
import type { AccessRule, RuleConditions } from "$lib/api/types";

/** Conditions that are typed as a list, with what stands beside them. */
export const LISTS = {
  groups: { label: "Groups", hint: "For example staff, board" },
  networks: { label: "From networks", hint: "For example 10.0.0.0/8, 2001:db8::/32" },
  methods: { label: "Methods", hint: "In capitals: GET, HEAD, POST" },
  path_prefixes: { label: "Paths begin with", hint: "In whole segments, from the root of the site: /admin" },
  sans: { label: "Names in the certificate", hint: "For example dns:*.example.com, email:*@example.com" },
  profiles: { label: "Profiles", hint: "" },
  authorities: { label: "Authorities", hint: "" },
} satisfies Partial<Record<keyof RuleConditions, { label: string; hint: string }>>;

export type ListName = keyof typeof LISTS;
export const LIST_NAMES = Object.keys(LISTS) as ListName[];

/** What stands in the form. */
export interface RuleDraft {
  /** Stays with the rule when it moves. */
  key: number;
  name: string;
  effect: AccessRule["effect"];
  lists: Record<ListName, string>;
  people: string[];
  devices: string[];
  minAge: number | "";
  maxAge: number | "";
}

let made = 0;

export function draftOfRule(rule: AccessRule): RuleDraft {
  const when = rule.when ?? {};
  const lists = LIST_NAMES.map((name) => [name, (when[name] ?? []).join(", ")]);
  return {
    key: ++made,
    name: rule.name,
    effect: rule.effect,
    lists: Object.fromEntries(lists) as Record<ListName, string>,
    people: [...(when.people ?? [])],
    devices: [...(when.devices ?? [])],
    minAge: when.certificate_age_min_days ?? "",
    maxAge: when.certificate_age_max_days ?? "",
  };
}

export const newRule = (): RuleDraft => draftOfRule({ name: "", effect: "allow" });

/** The rule as the server takes it: only the conditions that there are. */
export function ruleOf(draft: RuleDraft): AccessRule {
  const typed = LIST_NAMES.map((name): [string, string[]] => [name, split(draft.lists[name])]);
  const chosen: [string, string[]][] = [
    ["people", draft.people],
    ["devices", draft.devices],
  ];
  const given = [...typed, ...chosen].filter(([, values]) => values.length > 0);
  const when: RuleConditions = {
    ...(Object.fromEntries(given) as Partial<Record<ListName | "people" | "devices", string[]>>),
    // An emptied field of the browser holds null, whatever its type says.
    ...(typeof draft.minAge === "number" ? { certificate_age_min_days: draft.minAge } : {}),
    ...(typeof draft.maxAge === "number" ? { certificate_age_max_days: draft.maxAge } : {}),
  };
  return { name: draft.name.trim(), effect: draft.effect, ...(Object.keys(when).length > 0 ? { when } : {}) };
}

/** Moves a rule one place up or down; at the end it stays. */
export function moved(rules: RuleDraft[], from: number, by: -1 | 1): RuleDraft[] {
  const [one, other] = [rules[from], rules[from + by]];
  if (one === undefined || other === undefined) return rules;
  return rules.map((rule, at) => (at === from ? other : at === from + by ? one : rule));
}

const split = (text: string): string[] => [...new Set(text.split(/[\s,]+/).filter((word) => word !== ""))];
