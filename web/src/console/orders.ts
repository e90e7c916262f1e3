// In which orders certificates can be listed: each follows an index of the server, so which there are
// depends on the state that is asked for. Pure.
import type { Certificate } from "$lib/api/types";

export interface Order {
  value: string;
  label: string;
}

const ENDS: Order[] = [
  { value: "not_after", label: "Ends first" },
  { value: "-not_after", label: "Ends last" },
];
const ISSUED: Order[] = [
  { value: "-issued_at", label: "Newest first" },
  { value: "issued_at", label: "Oldest first" },
];
const REVOKED: Order[] = [
  { value: "-revoked_at", label: "Revoked last" },
  { value: "revoked_at", label: "Revoked first" },
];

/** The orders for a state, the usual one first. */
export function ordersOf(state: "" | Certificate["state"]): Order[] {
  switch (state) {
    case "active":
      return ENDS;
    case "expired":
      return [...ENDS].reverse();
    case "revoked":
      return REVOKED;
    case "":
      return ISSUED;
  }
}

/** The order to ask for: the wanted one if the state has it, else the usual one. */
export function orderFor(state: "" | Certificate["state"], wanted: string): string {
  const orders = ordersOf(state);
  return (orders.find(({ value }) => value === wanted) ?? orders[0])?.value ?? "";
}
