// What went wrong, in the one shape that pages show. Built from problem+json (RFC 9457).

export interface FieldProblem {
  /** JSON pointer into the request, for example `/email`. */
  pointer: string;
  detail: string;
}

export class Problem extends Error {
  constructor(
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
    /** Stable code, for example `rate_limited`. */
    readonly code: string,
    readonly detail: string,
    readonly fields: FieldProblem[] = [],
    /** Seconds to wait, if the server said so. */
    readonly retryAfter: number | undefined = undefined,
  ) {
    super(detail);
  }

  /** The message for one field of a form, by its pointer. */
  field(pointer: string): string | undefined {
    return this.fields.find((field) => field.pointer === pointer)?.detail;
  }

  /** Someone else changed the object since it was read. */
  get isStale(): boolean {
    return this.status === 412;
  }
}

export const unreachable = (): Problem =>
  new Problem(0, "unreachable", "The server did not answer. Check your connection and try again.");

/** Makes anything thrown into a problem that can be shown. */
export function asProblem(thrown: unknown): Problem {
  if (thrown instanceof Problem) return thrown;
  return new Problem(0, "page_failed", thrown instanceof Error ? thrown.message : "Something in this page failed.");
}

/** Reads an error answer. Tolerates bodies that are not problem+json, as a proxy in between may send. */
export function readProblem(response: Response, body: unknown): Problem {
  const said = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
  const text = (key: string): string | undefined => (typeof said[key] === "string" ? said[key] : undefined);
  const fields = Array.isArray(said["errors"]) ? said["errors"].flatMap(readField) : [];
  const retryAfter = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return new Problem(
    response.status,
    text("code") ?? `http_${response.status}`,
    text("detail") ?? text("title") ?? `The server answered with status ${response.status}.`,
    fields,
    Number.isFinite(retryAfter) ? retryAfter : undefined,
  );
}

function readField(value: unknown): FieldProblem[] {
  const field = value as Partial<FieldProblem> | null;
  if (typeof field?.pointer !== "string") return [];
  return [{ pointer: field.pointer, detail: field.detail ?? "This value was refused." }];
}
