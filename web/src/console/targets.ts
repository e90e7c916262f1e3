// The targets of an upstream, as the edge sees them and as an administrator wants them, in words. Pure.
import type { Forced, NameState, TargetState, Upstream, UpstreamOptions } from "$lib/api/types";
import { duration, formatCount, sentence, words } from "$lib/format";

export interface Target {
  target: string;
  /** What was decided about it, whatever the edge sees. */
  hold: Forced | undefined;
  /** Undefined until a route leads there. */
  seen: TargetState | undefined;
  /** What is known of its host, where targets are found by name and no address is known. */
  name?: NameState;
}

export interface Standing {
  word: string;
  tone: "plain" | "good" | "warn" | "bad";
  /** Why; empty where there is nothing to say. */
  says: string;
}

/** One that is found by its name is there once for each address. */
export function targetsOf({ targets, options, state = [], names = [] }: Upstream): Target[] {
  return [...new Set(targets)].flatMap((target): Target[] => {
    const hold = options.forced?.find((one) => one.target === target)?.breaker;
    const all = state.filter((one) => one.target === target);
    if (all.length > 0) return all.map((seen) => ({ target, hold, seen }));
    const name = names.find((one) => one.target === target);
    return [{ target, hold, seen: undefined, ...(name ? { name } : {}) }];
  });
}

const CAUSES: Record<string, string> = {
  no_such_name: "there is no such name",
  empty: "the name has no address",
  server_failure: "the name server failed",
  timeout: "no name server answered in time",
  unreachable: "no name server, or no address, can be reached",
  forbidden: "the name has only addresses that are never used",
  broken: "what came is not an answer",
};
const causeText = ({ cause }: NameState): string => CAUSES[cause ?? ""] ?? words(cause ?? "nothing came so far");

/** What is wrong with names that have addresses all the same. */
export function namesSay({ names = [] }: Upstream): string[] {
  return names.flatMap((name) => {
    const { target, addresses, stale, left_out: more, age_seconds: age } = name;
    if (stale && addresses > 0) {
      return [`${target}: ${causeText(name)}. Its addresses of ${duration(age ?? 0)} ago are used.`];
    }
    return more > 0 ? [`${target}: ${formatCount(more)} further addresses are not used.`] : [];
  });
}

/**
 * Whether a target is used, and why not. What was decided counts at once: the edge is looked at about
 * once a second, and its sight is older than an act just done.
 */
export function standingOf({ hold, seen, name }: Target): Standing {
  if (hold === "open") return { word: "taken out", tone: "warn", says: "" };
  if (hold === "closed") return { word: "held in", tone: "plain", says: "" };
  if (!seen && name) return { word: "not found", tone: "bad", says: sentence(causeText(name)) };
  if (!seen) return { word: "not seen yet", tone: "plain", says: "No route leads here so far." };
  switch (seen.breaker) {
    case "closed":
      if (seen.health === "unhealthy") return { word: "left alone", tone: "bad", says: "Its checks fail." };
      return { word: "in use", tone: "good", says: "" };
    case "open":
      return { word: "left alone", tone: "bad", says: "It failed, and is tried again soon." };
    case "probation":
      return { word: "on probation", tone: "warn", says: "One request is there, and decides." };
    case "forced_open":
    case "forced_closed":
      return { word: "changing", tone: "plain", says: "The edge follows in a moment." };
  }
}

const HEALTH: Record<TargetState["health"], Omit<Standing, "says">> = {
  healthy: { word: "healthy", tone: "good" },
  unhealthy: { word: "unhealthy", tone: "bad" },
  unknown: { word: "not checked yet", tone: "plain" },
};
export const healthOf = ({ seen }: Target): Omit<Standing, "says"> => HEALTH[seen?.health ?? "unknown"];

const FAILURES: Record<string, string> = {
  connect: "it could not be reached",
  timeout: "it did not answer in time",
  protocol: "the connection broke",
  status: "it answered with an error (5xx)",
};
export const failureText = (kind: string): string => FAILURES[kind] ?? words(kind);

function isInUse(target: Target): boolean {
  const { word } = standingOf(target);
  return word !== "taken out" && word !== "not found" && word !== "left alone" && word !== "on probation";
}

/** What is wrong with all of them together. The edge would rather ask anybody than nobody. */
export function alarmOf(targets: Target[]): string | undefined {
  if (targets.every(({ hold }) => hold === "open")) {
    return "Every target is taken out. Whoever comes here gets an error until you put one back.";
  }
  if (targets.some(isInUse)) return undefined;
  return "No target is well. Requests go to those that are left alone all the same, because there are no others.";
}

/** What taking it out would do to everybody; undefined where others are in use. */
export function harmOf(targets: Target[], gone: Target): string | undefined {
  const others = targets.filter(({ target }) => target !== gone.target);
  if (others.every(({ hold }) => hold === "open")) {
    return "It is the last one. Whoever comes here gets an error until you put one back.";
  }
  if (!isInUse(gone) || others.some(isInUse)) return undefined;
  return "It is the last one that is well. Requests will go to those that are left alone.";
}

/** The options with another decision about one target; without one, the edge judges by what it sees. */
export function holding(options: UpstreamOptions, target: string, hold: Forced | undefined): UpstreamOptions {
  const others = (options.forced ?? []).filter((one) => one.target !== target);
  return { ...options, forced: hold === undefined ? others : [...others, { target, breaker: hold }] };
}
