// The only place that speaks HTTP. Pages call `ask(api.GET(…))` and get data or a thrown Problem.
import createClient, { type Middleware } from "openapi-fetch";
import { readProblem, unreachable } from "./problem";
import type { paths } from "./schema";

/** The server takes changes by cookie only with a JSON content type, with or without a body. */
const sayJson: Middleware = {
  onRequest({ request }) {
    if (request.method !== "GET") request.headers.set("Content-Type", "application/json");
    return request;
  },
};

let token: string | undefined;

/** Speaks with an API token from now on, or with the cookie again. It is kept in this page's memory only. */
export function speakAs(bearer: string | undefined): void {
  token = bearer;
}

const sayToken: Middleware = {
  onRequest({ request }) {
    if (token !== undefined) request.headers.set("Authorization", `Bearer ${token}`);
    return request;
  },
};

export const api = createClient<paths>({ baseUrl: location.origin, credentials: "same-origin" });
api.use(sayJson, sayToken);

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

const listeners = new Set<() => void>();

/** Runs when an answer says that nobody is signed in (any more). */
export function onSignedOut(listener: () => void): void {
  listeners.add(listener);
}

/** Waits for an answer; throws a Problem for everything that is not success. */
export async function ask<T>(call: Promise<Answer<T>>): Promise<T> {
  return (await askWithTag(call)).data;
}

/** The same, with the ETag that the next edit has to name. */
export async function askWithTag<T>(call: Promise<Answer<T>>): Promise<{ data: T; tag: string }> {
  let answer: Answer<T>;
  try {
    answer = await call;
  } catch {
    throw unreachable();
  }
  const { response } = answer;
  if (!response.ok) {
    const problem = readProblem(response, answer.error);
    if (problem.code === "not_signed_in") listeners.forEach((listener) => listener());
    throw problem;
  }
  return { data: answer.data as T, tag: response.headers.get("ETag") ?? "" };
}

/** The header of an edit: what was read, as `version` or as the ETag of its answer. */
export function ifMatch(version: number | string): { "If-Match": string } {
  return { "If-Match": typeof version === "number" ? `"${version}"` : version };
}
