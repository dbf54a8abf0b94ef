/**
 * Asks course-gc to remove what a course left outside Postgres: vectors, keys, jobs, files, objects, rows.
 *
 * No dependencies: `fetch` and `AbortSignal` of Node 18 or newer, or of an edge runtime. Copy this file.
 */

/** How to reach course-gc. */
export interface CourseGc {
  /** Where `course-gc serve` listens, as in `http://course-gc:9090`. */
  url: string;
  /** A token with the scope `cleanup`. Keep it on the server. */
  token: string;
  /** After so many milliseconds nobody waits for an answer any more; what was asked for stays promised. Default: 25,000. */
  timeoutMs?: number;
}

/** `before_delete`: the course's row is still there, and about to go. `after_delete`: it is gone. */
export type Intent = "before_delete" | "after_delete";

/** Something that is left, and why. */
export interface Pending {
  /** The store's name; null if it is all of them. */
  store: string | null;
  reason: string;
  detail: string;
  /** How many resources, where that is known. */
  resources: number | null;
}

/** What became of a course in one store. Counts are resources, of what really went. */
export interface StoreCleanup {
  store: string;
  kind: "qdrant" | "redis" | "bullmq" | "files" | "objects" | "table";
  found: number;
  deleted: number;
  bytes: number;
  absent: number;
  /** By the name of what holds it. */
  held: Record<string, number>;
  /** It names somebody else, too, or something alive refers to it. */
  kept: number;
  failed: number;
  /** What is left now; null if nobody could count. */
  remaining: number | null;
  error: string | null;
  seconds: number;
}

/** What became of a course, as a whole. */
export interface Cleanup {
  /** Nothing is left, or what is left is promised, and `pending` says what it waits for. */
  success: boolean;
  /** Every store was counted anew, and is empty of the course. */
  verified: boolean;
  pending: Pending[];
  stores: StoreCleanup[];
  run: string | null;
  seconds: number;
}

/** What was asked for, as course-gc remembers it. */
export interface CleanupRequest {
  id: string;
  course_id: string;
  timing: Intent;
  state: "open" | "done" | "void" | "expired";
  requested_at: string;
  expires_at: string | null;
  /** Null until somebody looked. */
  answer: Cleanup | null;
}

/** Either what course-gc promised, or why nothing is promised. */
export type CleanupOutcome =
  | { promised: true; request: CleanupRequest }
  | { promised: false; status: number | null; error: string };

/**
 * Asks for everything to be removed that a course left. Never throws, so that a cleanup that fails blocks no deletion: what is not
 * promised here is found by the next scheduled run, after its grace.
 *
 * Twice with the same `key` is one request; without one, each call is a request, which is harmless.
 */
export async function cleanupCourseResources(
  courseGc: CourseGc,
  courseId: string,
  intent: Intent = "before_delete",
  key?: string,
): Promise<CleanupOutcome> {
  try {
    const url = new URL(`/v1/courses/${encodeURIComponent(courseId)}/cleanup`, courseGc.url);
    const response = await fetch(url, {
      method: "POST",
      headers: {
        authorization: `Bearer ${courseGc.token}`,
        "content-type": "application/json",
        ...(key === undefined ? {} : { "idempotency-key": key }),
      },
      body: JSON.stringify({ intent }),
      signal: AbortSignal.timeout(courseGc.timeoutMs ?? 25_000),
    });
    const body: unknown = await response.json();
    if (response.ok) {
      return { promised: true, request: body as CleanupRequest };
    }
    return { promised: false, status: response.status, error: problem(body) ?? response.statusText };
  } catch (error) {
    return { promised: false, status: null, error: error instanceof Error ? error.message : String(error) };
  }
}

/** What a problem says of itself (RFC 9457). */
function problem(body: unknown): string | undefined {
  if (typeof body !== "object" || body === null) {
    return undefined;
  }
  const { title, detail } = body as { title?: unknown; detail?: unknown };
  const told = [title, detail].filter((part): part is string => typeof part === "string");
  return told.length > 0 ? told.join(": ") : undefined;
}

/** One line for the log: what went, and what is still to go. */
export function summary(outcome: CleanupOutcome): string {
  if (!outcome.promised) {
    return `nothing is promised (${outcome.error}); a scheduled run finds what is left`;
  }
  const { id, state, answer } = outcome.request;
  if (answer === null) {
    return `request ${id} is ${state}; nobody has looked yet`;
  }
  const went = answer.stores.filter((store) => store.deleted > 0).map((store) => `${store.store} ${store.deleted}`);
  const waits = answer.pending.map((left) => `${left.store ?? "all stores"}: ${left.reason}`);
  const parts = [`request ${id} is ${state}`, `deleted: ${went.join(", ") || "nothing yet"}`];
  return (waits.length > 0 ? [...parts, `waits: ${waits.join(", ")}`] : parts).join("; ");
}
