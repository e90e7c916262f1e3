// The life of an authority in words: where it stands, what comes next, what each step does. Which step
// leads where is the server's to say; here is what people are told before they take it. Pure.
import type { Authority, AuthorityState } from "$lib/api/types";
import { formatDate, lifeLeft } from "$lib/format";

/** The states in their order. */
export const LIFE: readonly AuthorityState[] = ["staged", "trusted", "issuing", "retiring", "archived"];

/** What a state means. */
export const MEANING: Record<AuthorityState, string> = {
  staged: "Made, and trusted by nobody yet.",
  trusted: "In client trust. It issues nothing yet.",
  issuing: "Signs, and is trusted.",
  retiring: "Signs revocation lists only. What it signed before still passes.",
  archived: "Out of client trust. Nothing that it signed passes.",
};

export type Verb = "trust" | "rollback" | "issuance" | "retirement" | "archival";

export interface Step {
  verb: Verb;
  label: string;
  /** What it does, whole sentences. */
  does: string;
  /** Where it can lead to harm: asks for the authority's name. */
  byWord: boolean;
  /** Whether it leads on in the usual course. */
  isNext: boolean;
}

const step = (verb: Verb, label: string, does: string, more: Partial<Step> = {}): Step => ({ verb, label, does, byWord: false, isNext: false, ...more });

/** Whether people move it from step to step; the others are made and replaced by themselves, or stay. */
export const isRolledOver = ({ kind }: Authority): boolean => kind === "root" || kind === "issuing";

/** The one of its kind that signs now, if it is another. */
const signs = (authority: Authority, all: Authority[]): Authority | undefined =>
  all.find(({ name, kind, state }) => kind === authority.kind && state === "issuing" && name !== authority.name);

/** Its successor that waits to be trusted or to issue, if there is one. */
export const waiting = (authority: Authority, all: Authority[]): Authority | undefined =>
  all.find(({ kind, state }) => kind === authority.kind && (state === "trusted" || state === "staged"));

/** The steps that can be taken from where it stands, the usual one first. */
export function stepsOf(authority: Authority, all: Authority[]): Step[] {
  if (!isRolledOver(authority)) return [];
  const isRoot = authority.kind === "root";
  const others = signs(authority, all);
  switch (authority.state) {
    case "staged": {
      const cross = isRoot && others ? ` It and ${others.name} vouch for each other first, for verifiers elsewhere that know only one of them.` : "";
      return [
        step("trust", "Trust", `Edges accept what it signs from then on. It still issues nothing, and one step leads back.${cross}`, { isNext: true }),
        step("archival", "Discard", "It is put away for good. Nobody trusts it, so nobody breaks."),
      ];
    }
    case "trusted": {
      const what = isRoot ? "new issuing authorities" : "every new client certificate";
      const retires = others ? ` ${others.name} retires in the same moment: what that one signed still passes.` : "";
      return [
        step("issuance", "Let it issue", `From then on it signs ${what}.${retires} This has no way back, but nobody is shut out by it.`, { isNext: true }),
        step("rollback", "Roll back", "It leaves client trust again. It has issued nothing, so nobody breaks."),
      ];
    }
    case "issuing": {
      const stops = isRoot ? "No issuing authority can be made" : "Nothing is issued or renewed";
      return [step("retirement", "Retire without a successor", `${stops} until another one issues. What it signed still passes.`, { byWord: true })];
    }
    case "retiring":
      return [
        step(
          "archival",
          "Archive",
          isRoot
            ? "It leaves client trust for good, and with it every issuing authority that leads to it alone. What those signed is refused within a second."
            : "It leaves client trust for good. Whatever it signed and is still active is refused within a second.",
          { byWord: true, isNext: true },
        ),
      ];
    case "archived":
      return [];
  }
}

/** What to do next, in a sentence or two. */
export function advice(authority: Authority, all: Authority[], now = Date.now()): string {
  if (!isRolledOver(authority)) return "Nothing: it is not rolled over by hand.";
  const next = waiting(authority, all);
  switch (authority.state) {
    case "staged":
      return "Trust it, so that every edge knows it before anything is signed by it.";
    case "trusted":
      return "Let it issue once every edge has it, and verifiers elsewhere know it.";
    case "issuing": {
      if (next) return `${next.name} is ${next.state}; the next step is there.`;
      const until = authority.issues_until;
      if (until === undefined) return "Stage the next generation before it ends.";
      if (Date.parse(until) <= now) return "Roll over now: what it signs today ends early, with it.";
      return `Stage the next generation before ${formatDate(until)}: after that it no longer gives a full term.`;
    }
    case "retiring":
      return authority.kind === "root"
        ? "Archive it when no issuing authority leads to it alone any more: roll those over to one under the new root first."
        : "Archive it when nobody depends on it any more. Until then its certificates renew under the one that issues.";
    case "archived":
      return "Nothing: its life is over.";
  }
}

/** Whether it signs, or may come to. */
export const isYetToSign = ({ state }: Authority): boolean => state === "staged" || state === "trusted" || state === "issuing";

/** Share of its lifetime that is over, in whole percent; 100 only at its end. */
export function percentUsed({ not_before, not_after }: Authority, now = Date.now()): number {
  return Math.floor((1 - lifeLeft(not_before, not_after, now)) * 100);
}

/** Those in force first, and newest generations before older ones. */
export function inOrder(authorities: Authority[]): Authority[] {
  const rank = ({ state }: Authority): number => (state === "archived" ? 1 : 0);
  return [...authorities].sort((a, b) => rank(a) - rank(b) || Date.parse(b.not_before) - Date.parse(a.not_before) || (a.name < b.name ? 1 : -1));
}
