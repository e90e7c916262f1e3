// The names under which pages know what the API speaks of. Everything comes from the generated
// document, so a change of the server that the pages do not follow fails to compile.
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Alert = Schemas["Alert"];
export type AccessPolicy = Schemas["AccessPolicy"];
export type AuditChain = Schemas["AuditChain"];
export type AuditCheckpoint = Schemas["AuditCheckpoint"];
export type AuditEvent = Schemas["AuditEvent"];
export type AuditLink = Schemas["AuditLink"];
export type Authority = Schemas["Authority"];
export type AuthorityState = Schemas["AuthorityState"];
export type Balance = Schemas["Balance"];
export type Certificate = Schemas["Certificate"];
export type ClientAuth = Schemas["ClientAuth"];
export type Dependant = Schemas["Dependant"];
export type DependantList = Schemas["DependantList"];
export type Device = Schemas["Device"];
export type Enforced = Schemas["Enforced"];
export type Installation = Schemas["Installation"];
export type Invitation = Schemas["Invitation"];
export type Job = Schemas["Job"];
export type JobRun = Schemas["JobRun"];
export type Forced = Schemas["Forced"];
export type ForcedTarget = Schemas["ForcedTarget"];
export type HealthCheck = Schemas["HealthCheck"];
export type HealthFinding = Schemas["HealthFinding"];
export type KeyType = Schemas["KeyType"];
export type Person = Schemas["Person"];
export type Profile = Schemas["Profile"];
export type ProfileVersion = Schemas["ProfileVersion"];
export type RateRule = Schemas["RateRule"];
export type Rehearsal = Schemas["Rehearsal"];
export type RevocationReason = Schemas["RevocationReason"];
export type Role = Schemas["Role"];
export type Route = Schemas["Route"];
export type RouteOptions = Schemas["RouteOptions"];
export type RulesEdit = Schemas["RulesEdit"];
export type Session = Schemas["Session"];
export type Settings = Schemas["Settings"];
export type Site = Schemas["Site"];
export type TargetState = Schemas["TargetState"];
export type Token = Schemas["Token"];
export type Upstream = Schemas["Upstream"];
export type UpstreamOptions = Schemas["UpstreamOptions"];
