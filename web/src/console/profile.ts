// Profiles in words, and from and to the form. Pure.
import type { components } from "$lib/api/schema";
import type { KeyType, Profile, RulesEdit } from "$lib/api/types";
import { plural } from "$lib/format";
import { splitWords } from "./policy";

type Schemas = components["schemas"];
export type Unit = "days" | "hours" | "seconds";

const UNIT_SECONDS: Record<Unit, number> = { days: 86_400, hours: 3600, seconds: 1 };

export const KEY_TYPES: readonly KeyType[] = ["P-256", "P-384", "Ed25519", "RSA"];
export const NAMES: Record<Schemas["CommonName"], string> = {
  person_name: "Name of the person",
  device_name: "Name of the device",
  person_id: "Id of the person",
};
export const REQUESTERS: Record<Schemas["Requesters"], string> = {
  owner_or_administrator: "The owner or an administrator",
  owner: "Only the owner",
  administrator: "Only an administrator",
};
export const OUTLIVING: Record<Schemas["Outliving"], string> = {
  refuse: "Refuse the request",
  cap: "End it with the authority",
};

/** The largest unit that measures it without a rest. */
export function unitOf(seconds: number): Unit {
  if (seconds > 0 && seconds % UNIT_SECONDS.days === 0) return "days";
  return seconds > 0 && seconds % UNIT_SECONDS.hours === 0 ? "hours" : "seconds";
}

/** `7776000` → “90 days”. */
export function span(seconds: number): string {
  const unit = unitOf(seconds);
  return plural(seconds / UNIT_SECONDS[unit], unit.slice(0, -1));
}

export const inSeconds = (count: number, unit: Unit): number => Math.round(count * UNIT_SECONDS[unit]);
export const inUnit = (seconds: number, unit: Unit): number => seconds / UNIT_SECONDS[unit];

/** What stands in the form; texts and numbers as they are typed. */
export interface Draft {
  lifetime: number;
  backDate: number;
  keyTypes: string[];
  rsaBits: number;
  commonName: Schemas["CommonName"];
  personUri: boolean;
  deviceUri: boolean;
  email: boolean;
  dnsSuffixes: string;
  requesters: Schemas["Requesters"];
  groups: string;
  devices: number;
  supersedes: boolean;
  overlap: number;
  newKey: boolean;
  outliving: Schemas["Outliving"];
}

export function draftOfProfile(profile: Profile): Draft {
  return {
    lifetime: profile.lifetime_seconds,
    backDate: profile.back_date_seconds,
    keyTypes: [...profile.key_types],
    rsaBits: profile.rsa_min_bits ?? 2048,
    commonName: profile.common_name,
    personUri: profile.person_uri,
    deviceUri: profile.device_uri,
    email: profile.email,
    dnsSuffixes: profile.dns_suffixes.join(", "),
    requesters: profile.requesters,
    groups: profile.groups.join(", "),
    devices: profile.devices_per_person ?? 0,
    supersedes: profile.overlap_seconds !== undefined,
    overlap: profile.overlap_seconds ?? 86_400,
    newKey: profile.renewal_needs_new_key,
    outliving: profile.outliving,
  };
}

/** Every rule of the form, as an edit says it. */
export function rulesOf(draft: Draft): RulesEdit {
  const key_types = KEY_TYPES.filter((type) => draft.keyTypes.includes(type));
  return {
    lifetime_seconds: draft.lifetime,
    back_date_seconds: draft.backDate,
    key_types,
    ...(key_types.includes("RSA") ? { rsa_min_bits: draft.rsaBits } : {}),
    common_name: draft.commonName,
    person_uri: draft.personUri,
    device_uri: draft.deviceUri,
    email: draft.email,
    dns_suffixes: splitWords(draft.dnsSuffixes),
    requesters: draft.requesters,
    groups: splitWords(draft.groups),
    devices_per_person: draft.devices,
    ...(draft.supersedes ? { overlap_seconds: draft.overlap } : { keep_predecessor: true }),
    renewal_needs_new_key: draft.newKey,
    outliving: draft.outliving,
  };
}

const yes = (value: boolean): string => (value ? "yes" : "no");
const list = (values: string[], none: string): string => values.join(", ") || none;

/** Every rule with its name and its value in words. */
export function ruleTexts(profile: Profile): [string, string][] {
  const keys = profile.key_types.map((type) => (type === "RSA" && profile.rsa_min_bits ? `RSA from ${profile.rsa_min_bits} bits` : type));
  return [
    ["Lifetime", `${span(profile.lifetime_seconds)} (${profile.lifetime_seconds} s)`],
    ["Back-date", `${profile.back_date_seconds} s`],
    ["Keys", keys.join(", ")],
    ["Common name", NAMES[profile.common_name]],
    ["Person URI", yes(profile.person_uri)],
    ["Device URI", yes(profile.device_uri)],
    ["E-mail address", yes(profile.email)],
    ["DNS names below", list(profile.dns_suffixes, "none allowed")],
    ["Who may ask", REQUESTERS[profile.requesters]],
    ["For groups", list(profile.groups, "everyone")],
    ["Devices per person", profile.devices_per_person?.toString() ?? "no limit"],
    ["After a renewal", profile.overlap_seconds === undefined ? "the old one lives to its end" : `the old one is revoked after ${span(profile.overlap_seconds)}`],
    ["Renewal needs a new key", yes(profile.renewal_needs_new_key)],
    ["Would outlive the authority", OUTLIVING[profile.outliving]],
  ];
}

/** For example “Lifetime: 90 days → 30 days”; empty if nothing differs. */
export function differences(before: Profile, after: Profile): string[] {
  const old = new Map(ruleTexts(before));
  return ruleTexts(after).flatMap(([name, text]) => (old.get(name) === text ? [] : [`${name}: ${old.get(name) ?? ""} → ${text}`]));
}
