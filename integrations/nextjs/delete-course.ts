/** A route handler that deletes a course: the platform's own functions, and course-gc between them. */

import { cleanupCourseResources, summary, type CourseGc } from "./course-gc.js";

/** The platform's own courses, and its log. */
export interface Platform {
  /** Who calls, and may delete this course? Null if nobody may. */
  authorise(request: Request, courseId: string): Promise<{ userId: string } | null>;
  /** The course's organization; null if there is no such course. */
  organizationOf(courseId: string): Promise<string | null>;
  /** Deletes the course's row; throws if that is refused. */
  deleteRow(courseId: string): Promise<void>;
  log(entry: Record<string, unknown>): void;
}

/** What Next.js gives a handler of `app/api/courses/[courseId]/route.ts`. */
export interface Context {
  params: Promise<{ courseId: string }>;
}

/**
 * Its steps: the organization before the deletion, the cleanup, the log, then the row. The cleanup is asked for *before* the row goes
 * and does nothing yet: if the deletion is refused, the course has lost nothing. As soon as the row is gone, what it left goes, too.
 */
export function deleteCourse(platform: Platform, courseGc: CourseGc) {
  return async function DELETE(request: Request, context: Context): Promise<Response> {
    const { courseId } = await context.params;
    const caller = await platform.authorise(request, courseId);
    if (caller === null) {
      return Response.json({ error: "you may not delete this course" }, { status: 403 });
    }
    const organizationId = await platform.organizationOf(courseId);
    if (organizationId === null) {
      return Response.json({ error: "there is no such course" }, { status: 404 });
    }
    const cleanup = await cleanupCourseResources(courseGc, courseId, "before_delete");
    platform.log({ event: "course cleanup", courseId, organizationId, ...caller, cleanup: summary(cleanup) });
    // A cleanup that failed blocks nothing: what it did not do, the next run does.
    await platform.deleteRow(courseId);
    return Response.json({ deleted: courseId, cleanup });
  };
}
