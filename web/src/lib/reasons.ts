// Reasons of a revocation (RFC 5280 names) in the words of the person who gives one.
import type { RevocationReason } from "./api/types";

export interface ReasonChoice {
  value: RevocationReason;
  label: string;
}

/** What an owner is asked. */
export const OWNER_REASONS: ReasonChoice[] = [
  { value: "keyCompromise", label: "It was lost or stolen, or someone else used it" },
  { value: "superseded", label: "A new certificate or device replaces it" },
  { value: "cessationOfOperation", label: "I do not use it any more" },
  { value: "unspecified", label: "Another reason" },
];

/** What an owner is asked about a device that passes: it alone can be held. */
export const OWNER_REASONS_OR_HOLD: ReasonChoice[] = [
  ...OWNER_REASONS,
  { value: "certificateHold", label: "I cannot find it, and may find it again: hold it for now" },
];

/** What an administrator is asked. */
export const ADMIN_REASONS: ReasonChoice[] = [
  { value: "keyCompromise", label: "Key compromise: lost, stolen or copied" },
  { value: "affiliationChanged", label: "Affiliation changed: the person left or moved" },
  { value: "superseded", label: "Superseded: replaced by another" },
  { value: "cessationOfOperation", label: "Cessation of operation: no longer used" },
  { value: "privilegeWithdrawn", label: "Privilege withdrawn" },
  { value: "unspecified", label: "Unspecified" },
];

/** What an administrator is asked about one certificate: it alone can be held and released. */
export const CERTIFICATE_REASONS: ReasonChoice[] = [
  ...ADMIN_REASONS,
  { value: "certificateHold", label: "Hold: refused for now, and can be released" },
];

export function reasonText(reason: RevocationReason | undefined): string {
  if (reason === undefined) return "no reason recorded";
  return reason.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
}
