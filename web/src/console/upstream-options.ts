// The options of an upstream in words, and from and to the form. Pure. Defaults and bounds are those of
// the server's `domain/upstream.rs`.
import type { Balance, Discovery, ForcedTarget, HealthCheck, Upstream, UpstreamOptions } from "$lib/api/types";
import { milliseconds } from "$lib/format";

/** A number that may be left empty. */
export interface Measure {
  label: string;
  hint?: string;
  /** What counts where it is empty: a number, or words for what only the server knows. */
  usual: number | string;
  least: number;
  most: number;
}

const EDGE = "as for the edge";

export const MEASURES = {
  failures_to_open: { label: "Failures in a row", usual: 5, least: 1, most: 1000 },
  success_percent: { label: "Good answers below (%)", usual: 50, least: 0, most: 100 },
  max_in_flight: { label: "At each target", usual: "any number", least: 1, most: 1_000_000 },
  max_queue: { label: "Waiting for a place", usual: 100, least: 0, most: 100_000 },
  queue_timeout_ms: { label: "Longest wait (ms)", usual: 1000, least: 0, most: 60_000 },
  retry_percent: {
    label: "Second tries (%)",
    hint: "After a failure, what can safely be sent twice goes to another target. At most this share of all requests; 0: never.",
    usual: 20,
    least: 0,
    most: 100,
  },
  connect_timeout_ms: { label: "To connect", usual: EDGE, least: 1, most: 60_000 },
  answer_timeout_ms: { label: "Until an answer begins", usual: EDGE, least: 1, most: 3_600_000 },
  total_timeout_ms: { label: "Until all is done", usual: EDGE, least: 1, most: 86_400_000 },
} satisfies Record<string, Measure>;

export const CHECK_MEASURES = {
  interval_ms: { label: "Time between (ms)", usual: 5000, least: 100, most: 3_600_000 },
  timeout_ms: { label: "Longest wait (ms)", usual: 2000, least: 50, most: 60_000 },
  healthy_after: { label: "Good ones in a row", hint: "Until it is used.", usual: 2, least: 1, most: 100 },
  unhealthy_after: { label: "Bad ones in a row", hint: "Until it is left alone.", usual: 3, least: 1, most: 100 },
} satisfies Record<string, Measure>;

export const DISCOVERY_MEASURES = {
  refresh_seconds_min: { label: "Ask again after at least (s)", usual: 1, least: 1, most: 3600 },
  refresh_seconds_max: { label: "And at most (s)", usual: 300, least: 1, most: 86_400 },
} satisfies Record<string, Measure>;

export type MeasureName = keyof typeof MEASURES;
export type DiscoveryMeasureName = keyof typeof DISCOVERY_MEASURES;
export type DiscoveryChoice = "none" | Discovery["kind"];
export type CheckMeasureName = keyof typeof CHECK_MEASURES;
export type CheckChoice = "none" | HealthCheck["kind"];

export const BALANCES: Record<Balance, { label: string; says: string }> = {
  least_loaded: { label: "The less busy one", says: "Of two targets, the one that answers faster and has less to do." },
  round_robin: { label: "One after the other", says: "Each in its turn, however busy it is." },
  consistent_hash: {
    label: "The same one for the same person",
    says: "A person stays with one target while it is in use. Strangers go by their address.",
  },
};

export const CHECKS: Record<CheckChoice, { label: string; says: string }> = {
  none: { label: "No checks", says: "Targets are judged by their answers alone." },
  tcp: { label: "It takes a connection", says: "Every target is asked now and then." },
  http: { label: "It answers a request (HTTP)", says: "Every target is asked now and then. Statuses 200 to 399 are good." },
};

export const DISCOVERIES: Record<DiscoveryChoice, { label: string; says: string }> = {
  none: { label: "A name is one target", says: "It is looked up for each connection." },
  addresses: { label: "Each address is a target (A, AAAA)", says: "On the port that is written. Asked again as often as DNS says." },
  srv: {
    label: "By service records (SRV)",
    says: "Write the name of the service, such as http://_http._tcp.app.internal. Ports, shares and stand-ins come from DNS.",
  },
};

export type Protocol = NonNullable<UpstreamOptions["protocol"]>;

export const PROTOCOLS: Record<Protocol, { label: string; says: string }> = {
  http1: { label: "HTTP/1.1", says: "What every app speaks. WebSockets need it." },
  http2: { label: "HTTP/2", says: "Many requests over one connection, and gRPC. Without TLS, the app must take it with prior knowledge (h2c)." },
};

/** What stands in the form: an empty text where the usual value counts. */
export interface OptionsDraft {
  balance: Balance;
  protocol: Protocol;
  ca: string;
  serverName: string;
  presentsCertificate: boolean;
  check: CheckChoice;
  path: string;
  checkNumbers: Record<CheckMeasureName, number | "">;
  numbers: Record<MeasureName, number | "">;
  mayEjectAll: boolean;
  discovery: DiscoveryChoice;
  discoveryNumbers: Record<DiscoveryMeasureName, number | "">;
  /** Whether targets are told who visits, before anything else. */
  proxyProtocol: boolean;
}

export function draftOfOptions(options: UpstreamOptions = {}): OptionsDraft {
  const check = options.health_check;
  return {
    balance: options.balance ?? "least_loaded",
    protocol: options.protocol ?? "http1",
    ca: options.tls?.ca ?? "",
    serverName: options.tls?.server_name ?? "",
    presentsCertificate: options.tls?.present_certificate ?? false,
    check: check?.kind ?? "none",
    path: check?.path === undefined || check.path === "/" ? "" : check.path,
    checkNumbers: unusual(CHECK_MEASURES, check ?? {}),
    numbers: unusual(MEASURES, options),
    mayEjectAll: options.may_eject_all ?? false,
    discovery: options.discovery?.kind ?? "none",
    discoveryNumbers: unusual(DISCOVERY_MEASURES, options.discovery ?? {}),
    proxyProtocol: options.proxy_protocol === "v2",
  };
}

/** The options as an edit says them: all that are wanted, because what is absent goes back to its default. */
export function optionsOf(draft: OptionsDraft, forced: ForcedTarget[]): UpstreamOptions {
  const path = draft.path.trim();
  return {
    balance: draft.balance,
    ...(draft.protocol === "http1" ? {} : { protocol: draft.protocol }),
    ...tlsOf(draft),
    may_eject_all: draft.mayEjectAll,
    ...given(draft.numbers),
    ...(draft.proxyProtocol ? { proxy_protocol: "v2" as const } : {}),
    ...(draft.check === "none"
      ? {}
      : {
          health_check: {
            kind: draft.check,
            ...(draft.check === "http" && path !== "" ? { path } : {}),
            ...given(draft.checkNumbers),
          },
        }),
    ...(draft.discovery === "none" ? {} : { discovery: { kind: draft.discovery, ...given(draft.discoveryNumbers) } }),
    ...(forced.length > 0 ? { forced } : {}),
  };
}

/** Nothing where nothing is said: other targets than https take none of it. */
function tlsOf({ ca, serverName, presentsCertificate }: OptionsDraft): Pick<UpstreamOptions, "tls"> {
  const [authorities, name] = [ca.trim(), serverName.trim()];
  if (authorities === "" && name === "" && !presentsCertificate) return {};
  return {
    tls: {
      ...(authorities === "" ? {} : { ca: `${authorities}\n` }),
      ...(name === "" ? {} : { server_name: name }),
      ...(presentsCertificate ? { present_certificate: true } : {}),
    },
  };
}

/** The server names every value, also the default; only what differs from it is worth showing. */
function unusual<Name extends string>(
  measures: Record<Name, Measure>,
  values: Partial<Record<NoInfer<Name>, number>>,
): Record<Name, number | ""> {
  const names = Object.keys(measures) as Name[];
  const shown = (name: Name): number | "" => (values[name] === measures[name].usual ? "" : (values[name] ?? ""));
  return Object.fromEntries(names.map((name) => [name, shown(name)])) as Record<Name, number | "">;
}

/** An emptied field of the browser holds null, whatever its type says. */
function given<Name extends string>(numbers: Record<Name, number | "">): Partial<Record<Name, number>> {
  const filled = Object.entries(numbers).filter(([, value]) => typeof value === "number");
  return Object.fromEntries(filled) as Partial<Record<Name, number>>;
}

/** For example “Requests go to one after the other. Checked every 5 s at /ready.” */
export function summaryOf({ targets, options }: Upstream): string {
  const { balance = "least_loaded", health_check: check } = options;
  const spread = targets.length > 1 || options.discovery ? `Requests go to ${BALANCES[balance].label.toLowerCase()}. ` : "";
  const found = options.discovery ? " Found by name." : "";
  if (!check) return `${spread}No health checks.${found}`;
  const every = milliseconds(check.interval_ms ?? CHECK_MEASURES.interval_ms.usual);
  return `${spread}Checked every ${every} ${check.kind === "http" ? `at ${check.path ?? "/"}` : "by connecting"}.${found}`;
}
