// What on the overview deserves a look. Pure.
import type { Authority, Certificate, HealthFinding, Job, Site } from "$lib/api/types";
import { ATTENTION_BELOW, fromNow, lifeLeft, plural } from "$lib/format";

export interface Item {
  id: string;
  text: string;
  href: string;
  grave: boolean;
}

export function siteItems(sites: Site[], now = Date.now()): Item[] {
  return sites.flatMap((site) => {
    const { host, certificate, renewal } = site;
    const item = (text: string, grave: boolean): Item => ({ id: `site ${host}`, text, grave, href: "#/sites" });
    if (renewal?.last_error !== undefined) return [item(`${host}: renewal fails. ${renewal.last_error}`, true)];
    if (!certificate) return [item(`${host} has no certificate yet.`, false)];
    if (certificate.source === "local" && site.certificate_source === "acme") {
      return [item(`${host} is served with a certificate of the local server authority.`, true)];
    }
    if (lifeLeft(certificate.not_before, certificate.not_after, now) >= ATTENTION_BELOW) return [];
    return [item(`${host}: its certificate ends ${fromNow(certificate.not_after, now)}.`, true)];
  });
}

export function certificateItems(certificates: Certificate[], nameOf: (id: string) => string, now = Date.now()): Item[] {
  return certificates
    .filter(({ not_before, not_after, replaced_by }) => replaced_by === undefined && lifeLeft(not_before, not_after, now) < ATTENTION_BELOW)
    .map(({ serial, device_name, person_id, not_after }) => ({
      id: serial,
      text: `${device_name} of ${nameOf(person_id)} ends ${fromNow(not_after, now)}.`,
      href: `#/certificates/${serial}`,
      grave: false,
    }));
}

export function authorityItems(authorities: Authority[], now = Date.now()): Item[] {
  return authorities.flatMap(({ name, common_name, state, not_before, not_after, crl_next_update }) => {
    if (state === "archived") return [];
    const item = (text: string): Item => ({ id: name, text, href: `#/authorities/${name}`, grave: true });
    if (crl_next_update !== undefined && new Date(crl_next_update).getTime() < now) {
      return [item(`${common_name}: its revocation list is out of date since ${fromNow(crl_next_update, now)}.`)];
    }
    return lifeLeft(not_before, not_after, now) < ATTENTION_BELOW ? [item(`${common_name} ends ${fromNow(not_after, now)}.`)] : [];
  });
}

export function jobItems(jobs: Job[]): Item[] {
  return jobs
    .filter(({ last_run }) => last_run?.outcome !== undefined && last_run.outcome !== "succeeded")
    .map(({ name, last_run }) => ({
      id: name,
      text: `The job ${name} failed${last_run?.detail ? `: ${last_run.detail}` : "."}`,
      href: "#/jobs",
      grave: true,
    }));
}

/** One line for all of them: the page has the rest. */
export function healthItems(findings: HealthFinding[]): Item[] {
  if (findings.length === 0) return [];
  const critical = findings.filter(({ severity }) => severity === "critical").length;
  const text = `${plural(findings.length, "health finding")}${critical > 0 ? `, ${critical} critical` : ""}: ${[...new Set(findings.map(({ object }) => object))].join(", ")}`;
  return [{ id: "health", text, href: "#/health", grave: critical > 0 }];
}

/** The critical ones first, otherwise in the order of the server. */
export function worstFirst(findings: HealthFinding[]): HealthFinding[] {
  const rank = ({ severity }: HealthFinding): number => (severity === "critical" ? 0 : 1);
  return [...findings].sort((a, b) => rank(a) - rank(b));
}
