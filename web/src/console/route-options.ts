// How often a route may be asked, and how much may be sent to it: in words, and from and to the form. Pure. Bounds
// are those of the server's `domain/route.rs`. What it does to answers stands in `route-answers.ts`.
import type { RateRule, RouteOptions } from "$lib/api/types";
import { ANSWER_POINTERS, answersOf, draftOfAnswers, type AnswersDraft } from "./route-answers";

export type RatePer = RateRule["per"];

export const PERS: Record<RatePer, { label: string; says: string }> = {
  source: { label: "Each address", says: "Everybody behind one IPv4 address, or in one IPv6 /64, together." },
  device: { label: "Each device", says: "On public routes, strangers by their address." },
  person: { label: "Each person", says: "With all devices. On public routes, strangers by their address." },
  everyone: { label: "Everybody together", says: "What the app can take." },
};

export const MOST_RULES = 8;
export const MOST_REQUESTS = 100_000;
export const MOST_SECONDS = 86_400;
export const MOST_BODY_MIB = 1_048_576;

/** One rule in the form. */
export interface RuleDraft {
  per: RatePer;
  requests: number | "";
  seconds: number | "";
  /** Empty: as many as `requests`. */
  burst: number | "";
}

/** What stands in the form. */
export interface RouteOptionsDraft extends AnswersDraft {
  rules: RuleDraft[];
  /** Empty: as for the edge. */
  maxBody: number | "";
}

export function draftOfRouteOptions(options: RouteOptions = {}): RouteOptionsDraft {
  return {
    rules: (options.rate ?? []).map((rule) => ({ ...rule, burst: rule.burst ?? "" })),
    maxBody: options.max_body_mib ?? "",
    ...draftOfAnswers(options),
  };
}

export function newRule(): RuleDraft {
  return { per: "person", requests: 100, seconds: 10, burst: "" };
}

/** The options as an edit says them: all that are wanted, because what is absent goes back to its default. */
export function routeOptionsOf(draft: RouteOptionsDraft, kept: RouteOptions = {}): RouteOptions {
  // What this form does not know stays as it is.
  const options: RouteOptions = { ...kept };
  delete options.rate;
  delete options.max_body_mib;
  delete options.headers;
  delete options.cookies;
  delete options.compression;
  delete options.maintenance;
  // An emptied field of the browser holds null, whatever its type says.
  const isGiven = (value: number | ""): value is number => typeof value === "number";
  if (draft.rules.length > 0) {
    options.rate = draft.rules.map(({ per, requests, seconds, burst }) => ({
      per,
      requests: Number(requests),
      seconds: Number(seconds),
      ...(isGiven(burst) ? { burst } : {}),
    }));
  }
  if (isGiven(draft.maxBody)) options.max_body_mib = draft.maxBody;
  return { ...options, ...answersOf(draft) };
}

/** Where messages about these fields point to. */
export function pointersOf({ rules }: RouteOptionsDraft): string[] {
  const ofRule = (_: RuleDraft, index: number): string[] =>
    ["requests", "seconds", "burst"].map((name) => `/options/rate/${index}/${name}`);
  return ["/options/max_body_mib", ...rules.flatMap(ofRule), ...ANSWER_POINTERS];
}
