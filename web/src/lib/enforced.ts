import type { Enforced } from "./api/types";
import { plural } from "./format";

/** Says how far a change has reached the edges. */
export function enforcedText(enforced: Enforced | undefined): string {
  if (!enforced || enforced.edges === 0) return "";
  const { edges, acknowledged } = enforced;
  if (acknowledged >= edges) return edges === 1 ? "The edge has it in force." : "Every edge has it in force.";
  return `${acknowledged} of ${plural(edges, "edge")} have it in force; the others follow when they connect.`;
}
