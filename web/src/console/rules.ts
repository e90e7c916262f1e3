// Rules of a policy in words, and from and to the form. Pure. What they mean is written in the server's
// `domain/rule.rs`.
import type { AccessRule, RuleConditions } from "$lib/api/types";

/** Conditions that are typed as a list, with what stands beside them. Values that may hold commas stand in lines. */
export const LISTS = {
  groups: { label: "Groups", hint: "For example staff, board" },
  networks: { label: "From networks", hint: "For example 10.0.0.0/8, 2001:db8::/32" },
  methods: { label: "Methods", hint: "In capitals: GET, HEAD, POST" },
  path_prefixes: { label: "Paths begin with", hint: "One a line, in whole segments, from the root of the site: /admin" },
  sans: { label: "Names in the certificate", hint: "One a line, for example dns:*.example.com or email:*@example.com" },
  profiles: { label: "Profiles", hint: "" },
  authorities: { label: "Authorities", hint: "Each is one generation: add the successor before a roll-over" },
} satisfies Partial<Record<keyof RuleConditions, { label: string; hint: string }>>;

export type ListName = keyof typeof LISTS;
export const LIST_NAMES = Object.keys(LISTS) as ListName[];
/** Those with one value a line. */
export const LINED: readonly ListName[] = ["path_prefixes", "sans"];

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
  const lists = LIST_NAMES.map((name) => [name, (when[name] ?? []).join(LINED.includes(name) ? "\n" : ", ")]);
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
  const typed = LIST_NAMES.map((name): [string, string[]] => [name, split(draft.lists[name], LINED.includes(name))]);
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

/** Whoever is chosen in any rule. */
export const namedIn = (rules: readonly RuleDraft[], field: "people" | "devices"): string[] => [
  ...new Set(rules.flatMap((rule) => rule[field])),
];

export interface Choice {
  value: string;
  label: string;
}

/** Boxes for those who are known and for all who are chosen: what has no box is lost at the next tick of another. */
export function withBareIds(known: readonly Choice[], chosen: readonly string[]): Choice[] {
  const shown = new Set(known.map(({ value }) => value));
  const bare = [...new Set(chosen)].filter((id) => !shown.has(id));
  return [...known, ...bare.map((id) => ({ value: id, label: id }))];
}

/** Whether what a policy says depends on method or path. */
export const looksAtRequests = (rules: readonly AccessRule[] = []): boolean =>
  rules.some(({ when }) => (when?.methods ?? []).length + (when?.path_prefixes ?? []).length > 0);

function split(text: string, isLined: boolean): string[] {
  const words = text.split(isLined ? /\r?\n/ : /[\s,]+/).map((word) => word.trim());
  return [...new Set(words.filter((word) => word !== ""))];
}
